"""Write LeRobot v3.0 data sets that LeRobot itself opens (`benchmarks/open_with_lerobot.py` is the proof).

Episodes share parquet and video files up to a size limit, one row group per episode. Nothing appears under the given
name before it is complete: the set grows in `NAME.partial` and is renamed at the end. Leaves out appending to a set
that exists. Source of the layout: a data set written by LeRobot 0.6.1.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from pi05.data.lerobot import format_v3
from pi05.data.lerobot.encoder import Quality, VideoEncoder
from pi05.data.lerobot.feature_stats import Stats, histogram, number_stats, picture_stats
from pi05.errors import DataError
from pi05.files import free_bytes, size_text, sync
from pi05.temporary import LOCK, hold, rename_folder


class DatasetWriter:
    """A data set in the making.

    `features` is a dictionary as in meta/info.json: `{"dtype": "video", "shape": [height, width, 3], "names": […]}`
    for cameras, `{"dtype": "float32", "shape": [n], "names": […]}` for numbers; index columns are added. An episode's
    frames are held in memory until `end_episode` or `discard_episode`. Leaving the `with` block by an exception
    deletes what was written. Raises DataError when `root` exists already.
    """

    def __init__(
        self,
        root: str | Path,
        fps: int,
        features: dict[str, dict[str, Any]],
        robot_type: str,
        *,
        data_file_mb: float = 100,
        video_file_mb: float = 200,
        quality: Quality | None = None,
    ) -> None:
        if fps != int(fps) or fps < 1:
            raise ValueError(f"fps must be a positive whole number in LeRobot v3.0, not {fps}")
        clash = sorted(set(features) & set(format_v3.INDEX_TYPES))
        if clash:
            raise ValueError(f"{', '.join(clash)}: index columns are added by the writer")
        self.root, self.fps, self.robot_type = Path(root), int(fps), robot_type
        self._quality = quality
        self._sizes = {"data": data_file_mb, "video": video_file_mb}
        self._cameras = {name: feature for name, feature in features.items() if feature["dtype"] == "video"}
        self._numbers = {name: feature for name, feature in features.items() if feature["dtype"] != "video"}
        for name, feature in self._numbers.items():
            if feature["dtype"] not in ("float32", "float64", "int64", "bool") or len(feature["shape"]) != 1:
                raise ValueError(f"{name}: only vectors of float32, float64, int64 or bool can be written")
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in [*self._numbers, *format_v3.INDEX_TYPES]}
        self._histograms = {name: (np.zeros((3, 256), np.int64), 0) for name in self._cameras}
        self._frames = 0
        self._images: dict[str, list[np.ndarray]] = {name: [] for name in self._cameras}
        self._values: dict[str, list[np.ndarray]] = {name: [] for name in self._numbers}
        self._encoders: dict[str, VideoEncoder] = {}
        self._file_number = dict.fromkeys(["data", *self._cameras], 0)
        self._table: pq.ParquetWriter | None = None
        self._schema = format_v3.data_schema(self._numbers)
        self._partial = self.root.with_name(self.root.name + ".partial")
        self._lock = self._claim()

    def _claim(self) -> TextIO:
        """Create the folder that the set grows in, and hold a lock on it."""
        if self.root.is_file() or (self.root.is_dir() and any(self.root.iterdir())):
            raise DataError(
                f"there is already something at {self.root}",
                wanted="a new folder for the data set",
                found="a file" if self.root.is_file() else "a folder with content",
                remedy="choose another name, or remove it first",
            )
        self._partial.mkdir(parents=True, exist_ok=True)
        lock = (self._partial / LOCK).open("w")
        held = hold(lock.fileno(), self._partial / LOCK)
        if not held and (held is not None or len(os.listdir(self._partial)) > 1):
            lock.close()
            where = "and the file system has no locks that would tell a dead writer from a living one"
            raise DataError(
                f"another process is writing {self.root}",
                wanted="one writer at a time",
                found=f"a lock on {self._partial}" if held is not None else f"{self._partial} is there, {where}",
                remedy="wait until it has finished, or choose another name",
            )
        for leftover in self._partial.iterdir():  # of a run that was killed
            if leftover.is_dir():
                shutil.rmtree(leftover)
        return lock

    # --- frames and episodes ---------------------------------------------------------------------------------------

    def add_frame(self, images: dict[str, UInt8[np.ndarray, "height width 3"]], values: dict[str, np.ndarray]) -> None:
        """Add one time step: a picture of every camera, and a value of every other feature."""
        self._expect("cameras", set(self._cameras), set(images))
        self._expect("values", set(self._numbers), set(values))
        arrays = {name: np.asarray(value) for name, value in values.items()}
        for name, image in images.items():
            if list(image.shape) != list(self._cameras[name]["shape"]):
                raise ValueError(f"{name}: a picture of shape {image.shape}, not {self._cameras[name]['shape']}")
        for name, array in arrays.items():
            if array.size != self._numbers[name]["shape"][0] or not np.isfinite(array).all():
                raise ValueError(f"{name}: wanted {self._numbers[name]['shape'][0]} finite numbers, not {array}")
        for name, image in images.items():
            self._images[name].append(image.copy())
        for name, array in arrays.items():
            self._values[name].append(array.reshape(-1).astype(self._numbers[name]["dtype"]))

    @staticmethod
    def _expect(what: str, wanted: set[str], found: set[str]) -> None:
        if wanted != found:
            raise ValueError(f"{what}: wanted {sorted(wanted)}, not {sorted(found)}")

    @property
    def num_episodes(self) -> int:
        """Episodes ended so far."""
        return len(self._episodes)

    def _pending(self) -> int:
        return max((len(rows) for rows in [*self._values.values(), *self._images.values()]), default=0)

    def discard_episode(self) -> None:
        """Forget the frames added since the last episode ended."""
        for rows in [*self._values.values(), *self._images.values()]:
            rows.clear()

    def end_episode(self, task: str) -> None:
        """Write the frames added since the last episode as one episode that shows `task`."""
        length = self._pending()
        if not length or not task:
            raise ValueError(f"an episode needs frames and a task, not {length} frames and the task {task!r}")
        episode = len(self._episodes)
        task_index = self._tasks.setdefault(task, len(self._tasks))
        columns = {name: np.stack(rows) for name, rows in self._values.items()}
        columns["timestamp"] = (np.arange(length) / self.fps).astype(np.float32)
        columns["frame_index"] = np.arange(length)
        columns["episode_index"] = np.full(length, episode)
        columns["index"] = np.arange(self._frames, self._frames + length)
        columns["task_index"] = np.full(length, task_index)
        row: dict[str, Any] = {"episode_index": episode, "tasks": [task], "length": length}
        stats: dict[str, Stats] = {}
        with self._disk():
            row |= format_v3.place("data", self._write_rows(columns))
            for camera, images in self._images.items():
                row |= self._write_video(camera, images)
        row |= {"dataset_from_index": self._frames, "dataset_to_index": self._frames + length}
        for camera, images in self._images.items():
            counts, pictures = histogram(images)
            stats[camera] = picture_stats(counts, pictures)
            total, before = self._histograms[camera]
            self._histograms[camera] = (total + counts, before + pictures)
        for name, column in columns.items():
            stats[name] = number_stats(column)
            self._columns[name].append(column)
        row |= {f"stats/{name}/{key}": v.tolist() for name, values in stats.items() for key, v in values.items()}
        self._episodes.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        self._frames += length
        self.discard_episode()

    @contextmanager
    def extra_file(self, name: str) -> Iterator[Path]:
        """Yield where to write a file that appears with the set, outside its format: LeRobot passes over it."""
        with self._disk():
            yield self._partial / name

    # --- files -----------------------------------------------------------------------------------------------------

    def _write_rows(self, columns: dict[str, np.ndarray]) -> int:
        """Write one row group and return the number of the file that it is in."""
        path = self._partial / format_v3.data_path(self._file_number["data"])
        if self._table is not None and path.stat().st_size >= self._sizes["data"] * 2**20:
            self._table.close()
            self._table = None
            self._file_number["data"] += 1
            path = self._partial / format_v3.data_path(self._file_number["data"])
        if self._table is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table = pq.ParquetWriter(path, self._schema, compression="snappy", use_dictionary=True)
        arrays = []
        for field in self._schema:
            flat = pa.array(columns[field.name].ravel())
            vector = pa.types.is_fixed_size_list(field.type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, field.type.list_size) if vector else flat)
        self._table.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        return self._file_number["data"]

    def _write_video(self, camera: str, images: list[np.ndarray]) -> dict[str, Any]:
        """Append one episode to a camera's video and return where it is."""
        encoder = self._encoders.get(camera)
        if encoder is not None and encoder.size_bytes >= self._sizes["video"] * 2**20:
            encoder.close()
            encoder = None
            self._file_number[camera] += 1
        if encoder is None:
            path = self._partial / format_v3.video_path(camera, self._file_number[camera])
            height, width = self._cameras[camera]["shape"][:2]
            encoder = self._encoders[camera] = VideoEncoder(path, self.fps, height, width, self._quality)
        first = encoder.frames
        for image in images:
            encoder.add(image)
        place: dict[str, Any] = dict(format_v3.place(f"videos/{camera}", self._file_number[camera]))
        place[f"videos/{camera}/from_timestamp"] = first / self.fps
        place[f"videos/{camera}/to_timestamp"] = encoder.frames / self.fps
        return place

    # --- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish the files, write meta/, and give the set its name."""
        if self._pending():
            raise ValueError(f"{self._pending()} frames belong to no episode: call end_episode or discard_episode")
        if not self._episodes:
            self.abort()
            raise DataError(
                f"no episode was recorded for {self.root}",
                wanted="at least one episode",
                found="none",
                remedy="record or collect at least one complete episode",
            )
        with self._disk():
            self._close_files()
            self._write_meta()
            for folder, _, names in os.walk(self._partial):
                for path in [folder, *(os.path.join(folder, name) for name in names)]:
                    sync(Path(path))
            rename_folder(self._partial, self.root)
            sync(self.root.parent)
        self._lock.close()

    def _close_files(self) -> None:
        while self._encoders:
            self._encoders.popitem()[1].close()
        if self._table is not None:
            self._table.close()
            self._table = None

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Turn the system's refusal to write into a DataError, and delete what was written."""
        try:
            yield
        except OSError as error:
            self.abort()
            free = size_text(free_bytes(self.root.parent))
            raise DataError(
                f"the data set {self.root} cannot be written",
                wanted="room and permission to write",
                found=f"{error}; {free} are free",
                remedy="free disk space, or choose another folder; nothing of this set was kept",
            ) from error

    def _write_meta(self) -> None:
        meta = self._partial / "meta"
        (meta / "episodes" / "chunk-000").mkdir(parents=True)
        episodes = pa.Table.from_pylist(self._episodes)
        pq.write_table(episodes, meta / "episodes" / "chunk-000" / "file-000.parquet")
        pq.write_table(format_v3.task_table(self._tasks), meta / "tasks.parquet")
        stats = {name: number_stats(np.concatenate(parts)) for name, parts in self._columns.items()}
        stats |= {name: picture_stats(*parts) for name, parts in self._histograms.items()}
        listed = {name: {key: array.tolist() for key, array in values.items()} for name, values in stats.items()}
        (meta / "stats.json").write_text(json.dumps(listed, indent=4))
        features = format_v3.all_features(self._cameras, self._numbers, self.fps, self._quality)
        info = format_v3.info(features, self.fps, self.robot_type, self._sizes["data"], self._sizes["video"])
        totals = {"total_episodes": len(self._episodes), "total_frames": self._frames, "total_tasks": len(self._tasks)}
        info |= totals | {"splits": {"train": f"0:{len(self._episodes)}"}}
        (meta / "info.json").write_text(json.dumps(info, indent=4))

    def abort(self) -> None:
        """Delete what was written."""
        with suppress(OSError):
            self._close_files()
        shutil.rmtree(self._partial, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
