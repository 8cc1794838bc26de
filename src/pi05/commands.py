"""Settings of the commands that have no folder of their own. Torch-free; the path of a field is its flag."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pi05.settings import Checked


@dataclass(frozen=True, kw_only=True)
class CollectConfig(Checked):
    """Settings of `pi05 collect`."""

    env: Literal["tabletop"] = "tabletop"
    """The simulator."""
    family: Literal["base", "demo"] = "demo"
    """Family of layouts and instructions: base (what pi05-tiny was pre-trained on) or demo (what it has not seen)."""
    episodes: int = 100
    """Successful demonstrations to record, 1 or more."""
    output: str | None = None
    """Folder for the data set; it must not exist yet."""
    seed: int = 0
    """Seed of the layouts, 0 or more."""

    def _limits(self) -> None:
        self._at_least(1, "episodes")
        self._at_least(0, "seed")


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Checked):
    """Settings of `pi05 demo`."""

    output_dir: str = "outputs/demo"
    """Folder for data set, run and reports."""
    seed: int = 0
    """Seed of layouts, noise and data order, 0 or more."""
    threads: int | None = None
    """CPU threads, 1 or more; all cores when not given."""

    def _limits(self) -> None:
        self._at_least(0, "seed")
        self._at_least(1, "threads")


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Checked):
    """Settings of `pi05 report`: none."""

    FLAG_PREFIX: ClassVar[str] = ""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Checked):
    """Settings of `pi05 export`."""

    to: Literal["lerobot", "openpi", "pi05"] | None = None
    """Whose layout to write: lerobot (for its robots, lerobot-eval and lerobot-rollout), openpi (for its PyTorch
    server), or pi05 (one folder with all that a policy needs, without training state)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the written weights; bfloat16 takes half the disk, and keeps in float32 what the other program
    keeps so."""
    adapter_only: bool = False
    """Write the LoRA adapter alone, for LeRobot or pi05; without this flag it is merged into its base."""
    asset_id: str | None = None
    """Name under which openpi finds the statistics; the data set's name when not given. Of an openpi checkpoint with
    several statistics it chooses one."""
    base: str | None = None
    """Where the base of an adapter is, when not where the adapter says."""
    base_name: str | None = None
    """What a written adapter calls its base (a path or a repository); the base's absolute path when not given."""
    tokenizer_name: str | None = None
    """What LeRobot looks the tokenizer up by, such as the repository that the folder goes to; the absolute path of
    OUT/tokenizer when not given."""
    tokenizer_path: str | None = None
    """Tokenizer file or folder, for a checkpoint that holds none."""
    prompt_format: Literal["auto", "state", "state32", "none"] = "auto"
    """Prompt format of the policy; auto is what its folder tells, which openpi's and LeRobot's before 0.5.1 do not."""
    horizon: int | None = None
    """Actions in a chunk, 1 or more, where the folder does not tell: openpi's."""
    rename_map: dict[str, str] = field(default_factory=dict)
    """Robot's camera → the policy's camera or slot (scene, left_wrist, right_wrist), for folders without names."""
    device: str = "cpu"
    """Where the probe is computed, always in float32: cpu, cuda, cuda:N, or auto."""
    verify: bool = False
    """Compare an exported folder with the actions stored in it and with its source: pi05 export --verify OUT."""
    source: str | None = None
    """With --verify: the source to compare with, when it is not where it was."""
    relocate: bool = False
    """Rewrite the absolute paths in an exported folder after it was moved: pi05 export --relocate OUT."""

    def _limits(self) -> None:
        self._at_least(1, "horizon")
        self._require(bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device)), "device", "auto, cpu, cuda or cuda:N")


@dataclass(frozen=True, kw_only=True)
class InspectConfig(Checked):
    """Settings of `pi05 inspect`."""

    json: bool = False
    """Print JSON instead of tables."""
    hash: bool = True
    """Compute the SHA-256 of the weight files, which takes a few seconds per gigabyte."""
