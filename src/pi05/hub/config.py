"""Settings of `pi05 push`. Torch-free; the path of a field is its flag."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pi05.settings.schema import Checked

LONGEST_NAME = 96


@dataclass(frozen=True, kw_only=True)
class PushConfig(Checked):
    """What is published, where, and what its card says that no file of the run tells."""

    repo_id: str | None = None
    """Repository on the hub: OWNER/NAME, or NAME alone for your own."""
    private: bool | None = None
    """Make a new repository private; the hub's default for you when not given. An existing one keeps what it is, and
    a public one is refused when private is asked for."""
    adapter_only: bool = False
    """Publish the adapter of a LoRA run instead of the merged weights; who uses it needs the base as well."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type of the published weights; float32, as trained, when not given."""
    revision: str = "main"
    """Branch to commit to; it is made when it is not there."""
    message: str | None = None
    """Message of the commit."""
    license: str | None = None
    """Licence of the published weights, as the hub abbreviates it (apache-2.0, gemma, …); "not stated" without it."""
    dataset_license: str | None = None
    """Licence of the data set; when not given, what the data set's own card says, if it says so."""
    base_model: str | None = None
    """Name of the base on the hub, such as lerobot/pi05_base; when not given, what its files tell, if they do."""
    tags: tuple[str, ...] = ()
    """More tags for the card."""
    endpoint: str | None = None
    """Address of the hub or of a mirror; `HF_ENDPOINT`, else https://huggingface.co, when not given."""
    dry_run: bool = False
    """Write what would be published into RUN/hub, list it, and send nothing."""

    def _limits(self) -> None:
        if self.repo_id is not None:
            self._require(valid_name(self.repo_id), "repo_id", NAME_RULE)
        if self.endpoint is not None:
            self._require(
                re.match(r"https?://[^/]", self.endpoint) is not None, "endpoint", "an address with http(s)://"
            )
        self._require(re.fullmatch(r"[\w][\w./-]*", self.revision) is not None, "revision", "the name of a branch")
        if self.base_model is not None:
            self._require(valid_name(self.base_model), "base_model", NAME_RULE)


NAME_RULE = (
    "OWNER/NAME or NAME: letters, digits, '-', '_' and '.', neither '-' nor '.' at an end, no '--' or '..', "
    f"not ending in .git, at most {LONGEST_NAME} characters each"
)


def valid_name(repo_id: str) -> bool:
    """Tell whether the hub could have a repository of this name.

    Source: huggingface_hub's `validate_repo_id`, which mirrors the hub's rule.
    """
    if "--" in repo_id or ".." in repo_id or repo_id.endswith(".git"):
        return False
    part = rf"(?=.{{1,{LONGEST_NAME}}}(?:/|$))\w(?:[\w.-]*\w)?"
    return re.fullmatch(rf"(?:{part}/)?{part}", repo_id, re.ASCII) is not None
