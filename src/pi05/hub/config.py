"""Settings of `pi05 push`. Torch-free; the path of a field is its flag."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pi05.settings.schema import Checked
from pi05.sources.names import NAME_RULE, valid_name


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


@dataclass(frozen=True, kw_only=True)
class FetchConfig(Checked):
    """What is fetched, from where, to which folder."""

    to: str | None = None
    """Folder to fetch to; when not given the one that labs keep: pi05_base_model, pi05_libero_base_model,
    paligemma_model, local_dataset, libero-assets, or the name of another model."""
    repo_type: Literal["model", "dataset"] | None = None
    """What NAME is on the hub; model when not given. The words above tell it themselves."""
    tokenizer_only: bool = False
    """Of the model NAME only the files of its tokenizer."""
    episodes: tuple[int, ...] | None = None
    """Of a data set the files of these episodes, as far as its layout allows; all of it when not given."""
    mirror: tuple[str, ...] = ()
    """Addresses to try before `HF_ENDPOINT` or the hub, in turn. No token is sent to them."""
    workers: int = 8
    """Files that are fetched at the same time, 1 or more."""
    verify: bool = False
    """Compare a folder with its receipt: pi05 fetch --verify FOLDER."""
    relocate: bool = False
    """After a folder or a bundle was moved: name its tokenizer, for LeRobot, where it lies now."""

    def _limits(self) -> None:
        self._at_least(1, "workers")
        web = all(re.match(r"https?://[^/]", mirror) for mirror in self.mirror)
        self._require(web, "mirror", "addresses with http(s)://")
        self._require(self.episodes != () and all(i >= 0 for i in self.episodes or ()), "episodes", "numbers from 0 up")
