"""What a name means: which repository, of which type, which revision, and the folder that labs keep it in.

The table holds the words of `pi05 fetch` and what stands behind them. Torch-free and without the hub's client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pi05.errors import ConfigError

Kind = Literal["model", "dataset", "tokenizer", "assets"]
"""What is wanted of a repository. A tokenizer is a part of a model's, assets are a data set's as files."""
RepoType = Literal["model", "dataset"]
REPO_TYPE: dict[Kind, RepoType] = {"model": "model", "tokenizer": "model", "dataset": "dataset", "assets": "dataset"}

PALIGEMMA = "google/paligemma-3b-pt-224"
"""The repository that LeRobot's π₀.₅ looks its tokenizer up in; its licence has to be accepted first."""
DATASET_FOLDER = "local_dataset"

LONGEST_NAME = 96
NAME_RULE = (
    "OWNER/NAME or NAME: letters, digits, '-', '_' and '.', neither '-' nor '.' at an end, no '--' or '..', "
    f"not ending in .git, at most {LONGEST_NAME} characters each"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A repository on the hub, as far as something is wanted of it."""

    name: str
    kind: Kind
    revision: str | None = None
    """Branch, tag or commit; None: what the branch main holds."""

    @property
    def repo_type(self) -> RepoType:
        """The hub's word for what the repository is."""
        return REPO_TYPE[self.kind]

    @property
    def folder(self) -> str:
        """Name of the folder that it is fetched to."""
        known = next((entry for entry in SHORT.values() if entry.name == self.name), None)
        if known is not None:
            return FOLDERS[known.name]
        return DATASET_FOLDER if self.kind == "dataset" else self.name.rpartition("/")[2]

    @property
    def page(self) -> str:
        """Path of its page on the hub."""
        return f"datasets/{self.name}" if self.repo_type == "dataset" else self.name

    def __str__(self) -> str:
        """Return the name as a user writes it."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    def command(self) -> str:
        """Return the command that fetches it."""
        short = next((word for word, entry in SHORT.items() if entry.name == self.name), None)
        if short is not None and SHORT[short].kind == self.kind:
            return f"pi05 fetch {short}" + ("" if self.revision is None else f"@{self.revision}")
        return (
            f"pi05 fetch {self}"
            + {"model": "", "tokenizer": " --tokenizer_only", "dataset": " --repo-type=dataset"}[
                "dataset" if self.repo_type == "dataset" else self.kind
            ]
        )


SHORT: dict[str, Source] = {
    "base": Source(name="lerobot/pi05_base", kind="model"),
    "libero-base": Source(name="lerobot/pi05_libero_base", kind="model"),
    "tokenizer": Source(name=PALIGEMMA, kind="tokenizer"),
    "libero": Source(name="HuggingFaceVLA/libero", kind="dataset"),
    "libero-assets": Source(name="lerobot/libero-assets", kind="assets"),
}
"""The words of `pi05 fetch`."""

FOLDERS = {
    "lerobot/pi05_base": "pi05_base_model",
    "lerobot/pi05_libero_base": "pi05_libero_base_model",
    PALIGEMMA: "paligemma_model",
    "HuggingFaceVLA/libero": DATASET_FOLDER,
    "lerobot/libero-assets": "libero-assets",
}
"""Repository → the folder beside scripts/ that labs keep it in."""


def valid_name(repo_id: str) -> bool:
    """Tell whether the hub could have a repository of this name.

    Source: huggingface_hub's `validate_repo_id`, which mirrors the hub's rule.
    """
    if "--" in repo_id or ".." in repo_id or repo_id.endswith(".git"):
        return False
    part = rf"(?=.{{1,{LONGEST_NAME}}}(?:/|$))\w(?:[\w.-]*\w)?"
    return re.fullmatch(rf"(?:{part}/)?{part}", repo_id, re.ASCII) is not None


def parse_name(text: str, kind: Kind) -> Source | None:
    """Return what OWNER/NAME or OWNER/NAME@REVISION means; None for a text that is no such name.

    Where a folder OWNER is in the working directory, the text is a path in it, unless the table knows the name: a
    misspelt `runs/first` shall not be asked for on the hub.
    """
    name, at, revision = text.partition("@")
    if name.count("/") != 1 or not valid_name(name) or (at and not _valid_revision(revision)):
        return None
    if name not in FOLDERS and Path(name.partition("/")[0]).is_dir():
        return None
    if name == PALIGEMMA:
        kind = "tokenizer"
    return Source(name=name, kind=kind, revision=revision or None)


def parse_wish(text: str, repo_type: RepoType | None = None, *, tokenizer_only: bool = False) -> Source:
    """Return what a word behind `pi05 fetch` asks for. Raises ConfigError."""
    word, at, revision = text.partition("@")
    if at and not _valid_revision(revision):
        raise ConfigError(
            f"{text} names no revision", wanted="NAME@BRANCH, TAG or COMMIT", remedy="correct what stands behind @"
        )
    if word in SHORT:
        found = SHORT[word]
        if repo_type not in (None, found.repo_type):
            raise ConfigError(f"{word} is a {found.repo_type}", remedy="leave --repo-type out")
        return replace(found, revision=revision or None)
    known = next((entry for entry in SHORT.values() if entry.name == word), None)
    if known is not None and repo_type is None and not tokenizer_only:
        return replace(known, revision=revision or None)
    if word.count("/") != 1 or not valid_name(word):
        raise ConfigError(
            f"{text} is nothing that can be fetched",
            wanted=f"{', '.join(SHORT)}, or OWNER/NAME of a repository on the hub",
            found=repr(text),
            remedy="correct the name; a data set needs --repo-type=dataset",
        )
    kind: Kind = "dataset" if repo_type == "dataset" else "tokenizer" if tokenizer_only else "model"
    return Source(name=word, kind=kind, revision=revision or None)


def _valid_revision(text: str) -> bool:
    return re.fullmatch(r"\w[\w./-]*", text, re.ASCII) is not None and ".." not in text
