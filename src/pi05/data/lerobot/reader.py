"""Read LeRobot data sets of versions v2.0, v2.1 and v3.0: numbers from parquet, pictures from video or parquet.

What it returns equals what LeRobot 0.6.2 returns for the same folder (`tests/parity/test_dataset_golden.py`). Frames
are matched to video by number, not by looking for a timestamp, after the clocks have been checked to agree.
Leaves out resizing, normalising and batching. Opening reads `meta/`, parquet footers and index columns; a video is
checked when it is first used. Source: LeRobot `datasets/lerobot_dataset.py`, behaviour only.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from pi05.data.lerobot.clips import Clips
from pi05.data.lerobot.columns import Table
from pi05.data.lerobot.dimensions import Dimensions, name_dimensions
from pi05.data.lerobot.index_columns import read_frame_table
from pi05.data.lerobot.layout import EpisodeFiles, is_camera, is_video, last_in_file
from pi05.data.lerobot.meta import find_layout
from pi05.data.lerobot.wanted import needed_files
from pi05.errors import DataError
from pi05.sources.resolve import resolve
from pi05.types import ACTION, STATE

STATE_NAMES = (STATE, "state")
"""Names under which the robot's state is found, in this order."""
ACTION_NAMES = (ACTION, "actions")
"""Names under which the action is found, in this order."""
ALLOWANCES = ("timestamps", "index", "tasks")
"""Checks that `allow` can turn off."""

_KEEP_TABLES = 4
_KEEP_GROUPS = 8

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}
"""Of pictures that lie beside the tables, which then hold their paths."""
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
    will not be read: their numbers, tasks and files may be broken or missing. Raises DataError naming file, episode and
    remedy. May be used from several threads.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        drop_cameras: Sequence[str] = (),
        allow: Sequence[str] = (),
        unused: Sequence[int] = (),
        episodes: Sequence[int] | None = None,
    ) -> None:
        unknown = sorted(set(allow) - set(ALLOWANCES))
        if unknown:
            raise DataError(
                "there is no such check to turn off",
                wanted=f"some of {', '.join(ALLOWANCES)}",
                found=", ".join(unknown),
                remedy="correct --allow",
            )
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
        self.state_key = self._find("state", STATE_NAMES)
        self.action_key = self._find("action", ACTION_NAMES)
        state, action = self._dimensions(self.state_key), self._dimensions(self.action_key)
        self.state_names, self.action_names = state.names, action.names
        self.names_actions = action.known
        """Whether the set names the dimensions of its action; else `action_names` are numbers."""
        self.state_dim, self.action_dim = len(self.state_names), len(self.action_names)
        self.tasks = [task for _, task in sorted(layout.tasks.items())]
        images = [name for name in self.camera_keys if not is_video(self.features[name])]
        needed = [self.state_key, self.action_key, *images]
        self._frames = read_frame_table(layout, allow, needed, is_used)
        self.notes = [*layout.notes, *(kind.note for kind in (state, action) if kind.note is not None)]
        """Oddities of the files that change nothing in what is read; those of a video from its first use on."""
        self.episodes = [self._episode(files) for files in layout.episodes]
        self.num_episodes = len(self.episodes)
        self.num_frames = len(self._frames.timestamps)
        self._starts = np.array([episode.start for episode in self.episodes])
        self._tables = {path: Table(path, members) for path, members in layout.tables.items()}
        self._clips = Clips(
            layout.fps,
            late=self._frames.late,
            check_clocks="timestamps" not in allow,
            last=last_in_file(layout.episodes),
            notes=self.notes,
        )
        self._read_tables: OrderedDict[Path, dict[str, np.ndarray]] = OrderedDict()
        self._read_groups: OrderedDict[tuple[Path, str, int], Any] = OrderedDict()

    # --- what the set is -------------------------------------------------------------------------------------------

    def _find(self, what: str, names: tuple[str, ...]) -> str:
        for name in names:
            if name in self.features:
                return name
        raise DataError(
            f"the data set has no {what} column: {self.root / 'meta' / 'info.json'}",
            wanted=" or ".join(names),
            found=", ".join(self.features),
            remedy=f"rename the column that holds the {what} to {names[0]}, in meta/info.json and in the data files of "
            "every episode",
        )

    def _dimensions(self, key: str) -> Dimensions:
        feature = self.features[key]
        return name_dimensions(key, feature.get("names"), int(np.prod(feature.get("shape") or [1])))

    def _episode(self, files: EpisodeFiles) -> Episode:
        numbers = self._frames.task_index[files.start : files.start + files.length]
        if files.table in self._frames.skipped:
            return Episode(files.index, files.start, files.length, files.tasks)
        tasks = tuple(self._layout.tasks[int(number)] for number in dict.fromkeys(numbers.tolist()))
        return Episode(files.index, files.start, files.length, tasks)

    def __len__(self) -> int:
        return self.num_frames

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
            files |= {path for path in self.root.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES}
        return sorted(files)

    # --- numbers ---------------------------------------------------------------------------------------------------

    def states(self) -> Float32[np.ndarray, "frames S"]:
        """Return the states of all frames. The array is kept: do not write to it."""
        return self._vectors[0]

    def actions(self) -> Float32[np.ndarray, "frames n"]:
        """Return the actions of all frames. The array is kept: do not write to it."""
        return self._vectors[1]

    @cached_property
    def _vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """States and actions of all frames, read in one pass."""
        states = np.zeros((self.num_frames, self.state_dim), np.float32)
        actions = np.zeros((self.num_frames, self.action_dim), np.float32)
        for path, table in self._tables.items():
            if path in self._frames.skipped:
                continue
            values = self._read(table, [self.state_key, self.action_key])
            for files in table.episodes:
                frames = slice(files.start, files.start + files.length)
                rows = slice(files.first_row, files.first_row + files.length)
                states[frames], actions[frames] = values[self.state_key][rows], values[self.action_key][rows]
        return states, actions

    def _read(self, table: Table, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Read columns of one file; state and action become float32 [rows, dims] and must be finite."""
        vectors = {self.state_key: self.state_dim, self.action_key: self.action_dim}
        unused = [files for files in table.episodes if not self._is_used(files.index)]
        values = table.read(names, finite=list(vectors), unused=unused)
        for name in values.keys() & vectors.keys():
            array = values[name].reshape(len(values[name]), -1)
            if array.shape[1] != vectors[name] or array.dtype.kind not in "fiub":
                raise table.fault(
                    f"{name} is not what meta/info.json says",
                    0,
                    wanted=f"{vectors[name]} numbers in every frame",
                    found=f"{array.shape[1]} of type {array.dtype}",
                    remedy="correct its shape in meta/info.json, or write the data file anew",
                )
            values[name] = array.astype(np.float32)
        return values

    def columns(self, names: Sequence[str], episode: int) -> dict[str, np.ndarray]:
        """Return columns of one episode, without pictures: arrays [length] or [length, dims].

        Only these are read. Raises DataError where one of them has gaps.
        """
        files = self._layout.episodes[episode]
        rows = slice(files.first_row, files.first_row + files.length)
        there = [name for name, feature in self.features.items() if not is_camera(feature)]
        for name in names:
            if name not in there:
                raise KeyError(f"{name} is not a column of numbers of this data set; there are {', '.join(there)}")
        kept = self._columns_of(files.table, names)
        return {name: kept[name][rows] for name in names}

    def _columns_of(self, path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return columns of one file, from the few files read last as far as they are there."""
        values = self._read_tables.pop(path, {})
        missing = [name for name in names if name not in values]
        if missing:
            values = {**values, **self._read(self._tables[path], missing)}
        self._read_tables[path] = values
        while len(self._read_tables) > _KEEP_TABLES:
            self._read_tables.popitem(last=False)
        return values

    def _cell(self, table: Table, name: str, row: int) -> Any:
        """Return one cell of a column that nothing here needs: as numbers if it is some, else as it is stored."""
        key = (table.path, name, int(np.searchsorted(table.row_groups, row, side="right")) - 1)
        cells = self._read_groups.get(key)
        if cells is None:
            cells = table.as_numbers(self._group(table, name, key[2]), name)
            self._read_groups[key] = cells
        value = cells[row - table.row_groups[key[2]]]
        return value if isinstance(cells, np.ndarray) else value.as_py()

    def action_chunk(self, i: int, horizon: int) -> tuple[Float32[np.ndarray, "A n"], Bool[np.ndarray, " A"]]:
        """Return the `horizon` actions from frame i on, and which of them lie past the episode's end.

        Those repeat the episode's last action, as LeRobot does.
        """
        files = self._files_of(i)
        wanted = np.arange(i, i + horizon)
        last = files.start + files.length - 1
        return self._vectors[1][np.minimum(wanted, last)], wanted > last

    def task(self, i: int) -> str:
        """Return the instruction of frame i."""
        return self._layout.tasks[int(self._frames.task_index[self._position(i)])]

    def timestamp(self, i: int) -> float:
        """Return the time of frame i in seconds since its episode began, as stored (float32)."""
        return float(self._frames.timestamps[self._position(i)])

    def _position(self, i: int) -> int:
        if not 0 <= i < self.num_frames:
            raise IndexError(f"frame {i} of a data set of {self.num_frames} frames")
        return int(i)

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
        needed = self._columns_of(files.table, [self.state_key, self.action_key])
        result: dict[str, Any] = {name: needed[name][row] for name in (self.state_key, self.action_key)}
        others = [name for name, f in self.features.items() if not is_camera(f) and name not in result]
        result |= {name: self._cell(table, name, row) for name in others if name in table.column_names}
        result[STATE_NAMES[0]] = result[self.state_key]
        result[ACTION_NAMES[0]] = result[self.action_key]
        result |= {camera: self.image(camera, i) for camera in self.camera_keys}
        result |= {"task": self.task(i), "timestamp": self.timestamp(i), "episode_index": files.index}
        result["frame_index"] = i - files.start
        return result

    def image(self, camera: str, i: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return one camera's picture of frame i."""
        files = self._files_of(i)
        if is_video(self.features[camera]):
            image = self._clips.frame(camera, files, i - files.start)
        else:
            table, row = self._tables[files.table], files.first_row + i - files.start
            group = int(np.searchsorted(table.row_groups, row, side="right")) - 1
            cell = self._group(table, camera, group)[row - table.row_groups[group]].as_py()
            image = table.decode_image(cell, camera, row, self.root)
        return self._check_size(image, camera, files)

    def iter_frames(self, camera: str, episode: int) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Yield one camera's pictures of one episode in order; each is decoded once."""
        files = self._layout.episodes[episode]
        if is_video(self.features[camera]):
            for image in self._clips.frames(camera, files):
                yield self._check_size(image, camera, files)
        else:
            stop = files.first_row + files.length
            for image in self._tables[files.table].images(camera, files.first_row, stop, self.root):
                yield self._check_size(image, camera, files)

    def _group(self, table: Table, name: str, group: int) -> Any:
        """Return one row group of a column, from the few read last."""
        key = (table.path, name, group)
        cells = self._read_groups.pop(key, None)
        if cells is None:
            cells = table.cells(name, group)
        self._read_groups[key] = cells
        while len(self._read_groups) > _KEEP_GROUPS:
            self._read_groups.popitem(last=False)
        return cells

    def _check_size(self, image: np.ndarray, camera: str, files: EpisodeFiles) -> np.ndarray:
        shape = [int(side) for side in self.features[camera].get("shape") or []]
        height, width = image.shape[:2]
        if len(shape) == 3 and [height, width] not in (shape[:2], shape[1:]):
            raise DataError(
                f"the pictures of {camera}, episode {files.index}, are not of the size in meta/info.json: {self.root}",
                wanted=f"shape {shape}",
                found=f"height {height}, width {width}",
                remedy="correct the camera's shape in meta/info.json, or replace the video of that episode",
            )
        return image
