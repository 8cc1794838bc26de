"""Read LeRobot data sets of versions v2.0, v2.1 and v3.0: numbers from parquet, pictures from video or parquet.

What it returns equals what LeRobot 0.6.2 returns for the same folder (`tests/parity/test_dataset_golden.py`). Frames
are matched to video by number, not by looking for a timestamp, after the clocks have been checked to agree.
Leaves out resizing, normalising and batching. Opening reads `meta/`, parquet footers and index columns; a video is
checked when it is first used. Source: LeRobot `datasets/lerobot_dataset.py`, behaviour only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from pi05.data.describe import describe
from pi05.data.lerobot.clips import ClipCount, Clips
from pi05.data.lerobot.columns import RowGroups, Table
from pi05.data.lerobot.index_columns import read_frame_table
from pi05.data.lerobot.layout import EpisodeFiles, is_camera, is_video, last_in_file
from pi05.data.lerobot.meta import find_layout
from pi05.data.lerobot.numbers import Numbers, sizes_of
from pi05.data.lerobot.pictures import SUFFIXES, Pictures
from pi05.data.lerobot.vectors import choose_vector, unused_note
from pi05.data.wanted import needed_files
from pi05.errors import DataError
from pi05.sources.resolve import resolve
from pi05.types import ACTION, STATE

ALLOWANCES = ("timestamps", "index", "tasks")
"""Checks that `allow` can turn off."""

UPRIGHT = b"turned upright by EXIF"
"""Tells caches of stored pictures that version 0.1 made, which did not turn them, from those made since."""


@dataclass(frozen=True)
class Episode:
    """One demonstration."""

    index: int
    start: int
    """Global number of its first frame."""
    length: int
    """Frames."""
    tasks: tuple[str, ...]
    """The tasks of its frames, in order of appearance; those of the episode list where its file cannot be read."""


class Dataset:
    """A LeRobot data set: a folder, or OWNER/NAME (with @REVISION) of one on the hub.

    `drop_cameras` leaves cameras out by name. `allow` turns checks off that would refuse the set: 'timestamps' (the
    clock disagrees with fps or video; frames go by number), 'index' (frame_index or index is wrong) and 'tasks' (the
    episode list names other tasks than the frames, which count). Those in `unused`, and with `episodes` all but those,
    will not be read: their numbers, tasks and files may be broken or missing. `state` and `action` name columns to be
    joined in this order; what comes of it is observation.state and action, whatever else the set calls so. Raises
    DataError naming file, episode and remedy. May be used from several threads.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        drop_cameras: Sequence[str] = (),
        allow: Sequence[str] = (),
        unused: Sequence[int] = (),
        episodes: Sequence[int] | None = None,
        state: Sequence[str] | None = None,
        action: Sequence[str] | None = None,
    ) -> None:
        _require_known(allow)
        self.root = resolve(root, "dataset", needed=needed_files(episodes, unused, drop_cameras))
        excluded, chosen = frozenset(unused), None if episodes is None else frozenset(episodes)

        def is_used(episode: int) -> bool:
            return episode not in excluded and (chosen is None or episode in chosen)

        self._is_used = is_used
        self._layout = layout = find_layout(self.root, drop_cameras, is_used)
        self.version, self.fps, self.robot_type = layout.version, layout.fps, layout.robot_type
        self.features: dict[str, dict[str, Any]] = layout.features
        self.dropped_cameras = tuple(drop_cameras)
        self.camera_keys = [name for name, feature in self.features.items() if is_camera(feature)]
        info_path = layout.meta_files[0]
        self.state_vector = choose_vector("state", self.features, state, info_path)
        """Which columns the state consists of."""
        self.action_vector = choose_vector("action", self.features, action, info_path)
        vectors = (self.state_vector, self.action_vector)
        self.state_key, self.action_key = (vector.key for vector in vectors)
        self.state_dim, self.action_dim = (vector.size for vector in vectors)
        self._sizes = sizes_of(*vectors)
        images = [name for name in self.camera_keys if not is_video(self.features[name])]
        self._tables = {path: Table(path, members) for path, members in layout.tables.items()}
        self._frames = read_frame_table(layout, self._tables, allow, images, self._sizes, is_used)
        dimensions = [vector.dimensions for vector in vectors]
        self.state_names, self.action_names = (kind.names for kind in dimensions)
        self.names_actions = dimensions[1].known
        """Whether the set names the dimensions of its action; else `action_names` are numbers."""
        self.tasks = [task for _, task in sorted(layout.tasks.items())]
        notes = [*(kind.note for kind in dimensions), unused_note(self.features, *vectors)]
        self.passed = self._frames.passed
        """What would have refused the set but for `allow`."""
        self.notes = [*layout.notes, *(note for note in notes if note is not None)]
        """Oddities of the files that change nothing in what is read; those of a video from its first use on."""
        self.episodes = [self._episode(files) for files in layout.episodes]
        self.num_episodes = len(self.episodes)
        self.num_frames = len(self._frames.timestamps)
        self._starts = np.array([episode.start for episode in self.episodes])
        self._clips = Clips(
            layout.fps,
            late=self._frames.late,
            check_clocks="timestamps" not in allow,
            last=last_in_file(layout.episodes),
            notes=self.notes,
        )
        self._groups = RowGroups()
        self._pictures = Pictures(self.root, self.features, self._tables, self._clips, self._groups)
        self._numbers = Numbers(self.root, layout, self._tables, self._frames.skipped, *vectors, is_used)

    # --- what the set is -------------------------------------------------------------------------------------------

    def _episode(self, files: EpisodeFiles) -> Episode:
        numbers = self._frames.task_index[files.start : files.start + files.length]
        if files.table in self._frames.skipped:
            return Episode(files.index, files.start, files.length, files.tasks)
        tasks = tuple(self._layout.tasks[int(number)] for number in dict.fromkeys(numbers.tolist()))
        return Episode(files.index, files.start, files.length, tasks)

    def __len__(self) -> int:
        return self.num_frames

    __repr__ = describe

    def fingerprint(self) -> str:
        """Return a hash of the metadata and of all files' names, sizes and modification times."""
        digest = hashlib.sha256(json.dumps([self.version, self.camera_keys]).encode())
        if any(not is_video(self.features[name]) for name in self.camera_keys):
            digest.update(UPRIGHT)
        for path in self._layout.meta_files:
            digest.update(path.read_bytes())
        for path in sorted({*self._tables, *self.picture_files(self.camera_keys)}):
            if not path.exists():  # an unused episode's
                continue
            stat = path.stat()
            digest.update(f"{path.relative_to(self.root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def picture_files(self, cameras: Sequence[str]) -> list[Path]:
        """Return the files that hold these cameras' pictures: videos, tables, pictures beside the tables."""
        files = {clip.path for e in self._layout.episodes for name, clip in e.clips.items() if name in cameras}
        if any(not is_video(self.features[name]) for name in cameras):
            files |= set(self._tables)
            files |= {path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()}
        return sorted(files)

    def look_at_headers(self, cameras: Sequence[str]) -> None:
        """Put what the headers of these cameras' videos tell into `notes` now; of hundreds of files, none is opened.

        Raises DataError for a video that cannot be opened.
        """
        used = [files for files in self._layout.episodes if self._is_used(files.index)]
        for camera in (name for name in cameras if is_video(self.features[name])):
            self._clips.look_at_headers(camera, used)

    def clip_counts(self, camera: str) -> Iterator[ClipCount]:
        """Yield how many frames each used episode's stretch of one camera's videos holds; nothing for stored pictures.

        Opens every file for some milliseconds. Raises DataError for one that cannot be opened.
        """
        if is_video(self.features[camera]):
            yield from self._clips.counts(camera, [e for e in self._layout.episodes if self._is_used(e.index)])

    # --- numbers ---------------------------------------------------------------------------------------------------

    def states(self) -> Float32[np.ndarray, "frames S"]:
        """Return the states of all frames. The array is kept: do not write to it."""
        return self._numbers.vectors[0]

    def actions(self) -> Float32[np.ndarray, "frames n"]:
        """Return the actions of all frames. The array is kept: do not write to it."""
        return self._numbers.vectors[1]

    def broken_numbers(self) -> dict[int, tuple[int, str]]:
        """Return the episodes whose state or action is not finite somewhere: how many frames, and where first.

        So that all such episodes can be named; `states()` stops at the first.
        """
        return self._numbers.broken()

    def columns(self, names: Sequence[str], episode: int) -> dict[str, np.ndarray]:
        """Return columns of one episode, without pictures: arrays [length] or [length, dims].

        `state_key` and `action_key` are the joined ones. Only these are read. Raises DataError where one has gaps.
        """
        return self._numbers.columns(names, episode)

    def action_chunk(self, i: int, horizon: int) -> tuple[Float32[np.ndarray, "A n"], Bool[np.ndarray, " A"]]:
        """Return the `horizon` actions from frame i on, and which of them lie past the episode's end.

        Those repeat the episode's last action, as LeRobot does.
        """
        files = self._files_of(i)
        wanted = np.arange(i, i + horizon)
        last = files.start + files.length - 1
        return self._numbers.vectors[1][np.minimum(wanted, last)], wanted > last

    def task(self, i: int) -> str:
        """Return the instruction of frame i."""
        return self._layout.tasks[int(self._frames.task_index[self._position(i)])]

    def timestamp(self, i: int) -> float:
        """Return the time of frame i in seconds since its episode began, as stored (float32)."""
        return float(self._frames.timestamps[self._position(i)])

    def timestamps(self) -> Float32[np.ndarray, " frames"]:
        """Return the times of all frames, each since its episode began (seconds). Do not write to it."""
        return self._frames.timestamps

    def task_numbers(self) -> Int64[np.ndarray, " frames"]:
        """Return each frame's place in the task list's numbering. Do not write to it."""
        return self._frames.task_index

    def _position(self, i: int) -> int:
        if not 0 <= i < self.num_frames:
            raise IndexError(f"frame {i} of a data set of {self.num_frames} frames")
        return int(i)

    def listed_files(self) -> set[Path]:
        """Return the data files and videos that the episode list names."""
        return set(self._tables) | {clip.path for files in self._layout.episodes for clip in files.clips.values()}

    def _files_of(self, i: int) -> EpisodeFiles:
        return self._layout.episodes[int(np.searchsorted(self._starts, self._position(i), side="right")) - 1]

    # --- pictures --------------------------------------------------------------------------------------------------

    def frame(self, i: int) -> dict[str, Any]:
        """Return all of frame i: features by name, pictures as uint8 [height, width, 3], "task" and "timestamp".

        State and action are there under observation.state and action as well, when the set names them otherwise.
        Columns that training does not need come as they are: numbers, texts, lists, None.
        """
        files = self._files_of(i)
        table, row = self._tables[files.table], files.first_row + i - files.start
        parts = self._numbers.columns_of(files.table, list(self._sizes))
        result: dict[str, Any] = {name: parts[name][row] for name in self._sizes}
        others = [name for name, f in self.features.items() if not is_camera(f) and name not in result]
        result |= {name: self._groups.value(table, name, row) for name in others if name in table.column_names}
        state, action = (
            vector.join({name: value[None] for name, value in result.items() if name in self._sizes})[0]
            for vector in (self.state_vector, self.action_vector)
        )
        result |= {self.state_key: state, self.action_key: action, STATE: state, ACTION: action}
        result |= {camera: self.image(camera, i) for camera in self.camera_keys}
        result |= {"task": self.task(i), "timestamp": self.timestamp(i), "episode_index": files.index}
        result["frame_index"] = i - files.start
        return result

    def image(self, camera: str, i: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return one camera's picture of frame i."""
        files = self._files_of(i)
        return self._pictures.one(camera, files, i - files.start)

    def iter_frames(self, camera: str, episode: int) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Yield one camera's pictures of one episode in order; each is decoded once."""
        return self._pictures.all(camera, self._layout.episodes[episode])


def _require_known(allow: Sequence[str]) -> None:
    unknown = sorted(set(allow) - set(ALLOWANCES))
    if unknown:
        raise DataError(
            "there is no such check to turn off",
            wanted=f"some of {', '.join(ALLOWANCES)}",
            found=", ".join(unknown),
            remedy="correct --allow",
        )
