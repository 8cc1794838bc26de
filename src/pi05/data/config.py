"""Settings of the data set: where it is, which episodes are used, which are held out. Torch-free.

Flag names are LeRobot's (`--dataset.root`, `--dataset.episodes`, …).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pi05.settings.schema import Checked


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(Checked):
    """Which demonstrations a run reads."""

    FLAG_PREFIX: ClassVar[str] = "dataset."

    root: str | None = None
    """Folder of a LeRobot v2.0, v2.1 or v3.0 data set."""
    repo_id: str | None = None
    """The data set as OWNER/NAME on the hub, with @REVISION or not: looked for in local_dataset/ here, beside scripts/
    and in it, then in the hub's cache, then fetched. With `--dataset.root` only its name in records and reports."""
    episodes: tuple[int, ...] | None = None
    """Episodes to use, by index; all of them when not given."""
    exclude_episodes: tuple[int, ...] | None = None
    """Episodes to leave out, by index, for example broken recordings."""
    state: tuple[str, ...] | None = None
    """Columns that are the robot's state, joined in this order; observation.state or state when not given."""
    action: tuple[str, ...] | None = None
    """Columns that are the action, joined in this order; action or actions when not given."""
    eval_split: float = 0.05
    """Share of the episodes of each task held out for measuring the action error, 0 to below 1; at least one episode
    of each task with more than four, unless 0."""
    video_backend: Literal["pyav"] = "pyav"
    """Video decoder; PyAV brings its own FFmpeg."""
    cache_dir: str | None = None
    """Folder for decoded, resized frames; `$PI05_CACHE` or ~/.cache/pi05/frames when not given."""

    def _limits(self) -> None:
        for name in ("episodes", "exclude_episodes"):
            indices = getattr(self, name)
            if indices is not None:
                distinct = len(set(indices)) == len(indices)
                self._require(distinct and all(i >= 0 for i in indices), name, "distinct whole numbers from 0 up")
        self._require(self.episodes != (), "episodes", "at least one episode, or the flag left out")
        for name in ("state", "action"):
            columns = getattr(self, name)
            if columns is not None:
                distinct = len(set(columns)) == len(columns) > 0
                self._require(distinct and all(columns), name, "distinct names of columns, at least one")
        self._require(0 <= self.eval_split < 1, "eval_split", "a share from 0 to below 1")
