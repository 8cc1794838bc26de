"""One pass over a data set's index columns at opening: does what the files hold agree with the episode list?

Checks rows per episode, episode, frame and global numbers, task numbers and the clock; keeps time and task of every
frame. Values and pictures are not read here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int64

from pi05.data.lerobot.columns import Table
from pi05.data.lerobot.files import DOWNLOAD_AGAIN, excluding, lacks_end
from pi05.data.lerobot.layout import DatasetLayout, EpisodeFiles, IsUsed, all_of_them, is_camera
from pi05.errors import DataError

CLOCK_TOLERANCE = 1e-4
"""Largest error of a time step in seconds: LeRobot's own tolerance."""
NO_TASK = -1
"""Task number of frames that nobody will read."""
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class FrameTable:
    """Time and task of every frame."""

    timestamps: Float32[np.ndarray, " frames"]
    """Seconds since the episode began, as stored."""
    task_index: Int64[np.ndarray, " frames"]
    late: set[int]
    """Episodes whose clock does not start at 0."""
    skipped: set[Path]
    """Data files that could not be read and that no used episode needs."""


def read_frame_table(
    layout: DatasetLayout,
    allow: Collection[str],
    needed: Collection[str] = (),
    is_used: IsUsed = all_of_them,
) -> FrameTable:
    """Read and check the index columns of all data files. `allow` may hold 'timestamps', 'index' and 'tasks'.

    Every file must have the columns in `needed`; others of info.json may be missing. Files that hold unused episodes
    only may be damaged or missing; their frames have no task.
    """
    total = sum(episode.length for episode in layout.episodes)
    frames = FrameTable(np.zeros(total, np.float32), np.full(total, NO_TASK, np.int64), set(), set())
    _check_ends(layout, is_used)
    reworded: list[int] = []
    for path, episodes in layout.tables.items():
        table = Table(path, episodes)
        try:
            reworded += _read_table(table, layout, allow, needed, is_used, frames)
        except DataError:
            if any(is_used(episode.index) for episode in episodes):
                raise
            frames.skipped.add(path)
    if reworded:
        layout.notes.append(
            f"{len(reworded)} of {len(layout.episodes)} episodes have other task texts in the episode list than in the "
            f"task list (the first: {min(reworded)}); those of the task list are used"
        )
    if frames.late:
        layout.notes.append(
            f"{len(frames.late)} of {len(layout.episodes)} episodes do not start at time 0 (the first: "
            f"{min(frames.late)}); frames are matched to video by number"
        )
    return frames


def _read_table(
    table: Table,
    layout: DatasetLayout,
    allow: Collection[str],
    needed: Collection[str],
    is_used: IsUsed,
    frames: FrameTable,
) -> list[int]:
    """Read one file into `frames`. Returns the episodes whose tasks the episode list words otherwise."""
    _check_columns(table, [*needed, *(name for name in INDEX_COLUMNS if name in layout.features)])
    for name in needed:
        if is_camera(layout.features[name]):
            table.require_pictures(name)
    present = [name for name in INDEX_COLUMNS if name in table.column_names]
    values = {name: column.reshape(len(column)) for name, column in table.read(present).items()}
    _check_rows(table, values.get("episode_index"))
    reworded = []
    for episode in table.episodes:
        rows = slice(episode.first_row, episode.first_row + episode.length)
        place = slice(episode.start, episode.start + episode.length)
        if "index" not in allow:
            _check_numbers(table, episode, {name: column[rows] for name, column in values.items()})
        times = values.get("timestamp")
        clock = np.arange(episode.length) / layout.fps if times is None else times[rows].astype(np.float64)
        if "timestamps" not in allow:
            _check_clock(table, episode, clock, layout.fps)
        if abs(clock[0]) > CLOCK_TOLERANCE:
            frames.late.add(episode.index)
        frames.timestamps[place] = clock
        tasks = values.get("task_index")
        numbers = _tasks(table, episode, layout, None if tasks is None else tasks[rows])
        frames.task_index[place] = numbers
        if not is_used(episode.index):
            continue
        _check_texts(episode, layout, numbers)
        if "tasks" not in allow and _tasks_differ(table, episode, layout, numbers):
            reworded.append(episode.index)
    return reworded


def _check_ends(layout: DatasetLayout, is_used: IsUsed) -> None:
    """Raise DataError for data files without an end, naming the episodes that are whole beside them."""
    used = [episode for episode in layout.episodes if is_used(episode.index)]
    cut = {path for path in {episode.table for episode in used} if lacks_end(path)}
    if not cut:
        return
    whole = [episode.index for episode in used if episode.table not in cut]
    first = next(episode for episode in used if episode.table in cut)
    going_on = f"--dataset.episodes='[{', '.join(map(str, whole))}]' trains on the episodes that are whole; "
    raise DataError(
        f"the data file of episode {first.index} cannot be read: {first.table}",
        wanted="a parquet file with its footer, which is written last",
        found=f"no footer: the recording or the copy was interrupted; {len(whole)} of {len(used)} episodes are whole",
        remedy=f"{going_on if whole else ''}if the file is whole at its source, {DOWNLOAD_AGAIN}",
    )


def _check_columns(table: Table, needed: list[str]) -> None:
    columns = table.column_names
    missing = [name for name in needed if name not in columns]
    if missing:
        raise DataError(
            f"a column is missing in the data file of episode {table.episodes[0].index}: {table.path}",
            wanted=f"{', '.join(missing)} (named in meta/info.json)",
            found=", ".join(columns),
            remedy="correct the features in meta/info.json, or write the data file anew",
        )


def _check_rows(table: Table, episode_index: np.ndarray | None) -> None:
    """Compare the number of rows, and whose they are, with the episode list."""
    rows = table.row_groups[-1]
    remedy = f"the data file and meta/ are of different states of the set; {DOWNLOAD_AGAIN}"
    if episode_index is not None:
        wanted = np.repeat([e.index for e in table.episodes], [e.length for e in table.episodes])
        common = min(rows, len(wanted))
        wrong = np.flatnonzero(wanted[:common] != episode_index[:common])
        if len(wrong):
            row = int(wrong[0])
            raise table.fault(
                "the episode list disagrees with the data file",
                row,
                wanted=f"episode_index {wanted[row]} in row {row}",
                found=f"episode_index {episode_index[row]}",
                remedy=remedy,
            )
    if rows != table.num_rows:
        episode, _ = table.locate(min(rows, table.num_rows - 1))
        raise DataError(
            f"the episode list disagrees with the data file about episode {episode.index}: {table.path}",
            wanted=f"{table.num_rows} rows for the episodes {[e.index for e in table.episodes][:8]}",
            found=f"{rows} rows",
            remedy=remedy,
        )


def _check_numbers(table: Table, episode: EpisodeFiles, columns: dict[str, np.ndarray]) -> None:
    for name, first in (("frame_index", 0), ("index", episode.start)):
        if name not in columns:
            continue
        wrong = np.flatnonzero(columns[name] != np.arange(first, first + episode.length))
        if len(wrong):
            frame = int(wrong[0])
            raise table.fault(
                f"the column {name} disagrees with the episode list",
                episode.first_row + frame,
                wanted=str(first + frame),
                found=str(columns[name][frame]),
                remedy="write the data set anew, or, if the frames are known to be complete and in order, "
                "read on with --allow='[index]'",
            )


def clock_fault(times: Float[np.ndarray, " frames"], fps: float) -> tuple[int, str, str] | None:
    """Return (frame, wanted, found) where times stop being evenly spaced by 1/fps, or None. Any start is accepted."""
    if not np.isfinite(times).all():
        frame = int(np.argmin(np.isfinite(times)))
        return frame, "a time in seconds", str(times[frame])
    # Times are stored as float32: late in a long episode their own rounding exceeds the tolerance.
    rounding = 2 * float(np.spacing(np.float32(np.abs(times).max())))
    steps = np.diff(times)
    wrong = np.flatnonzero(np.abs(steps - 1 / fps) > CLOCK_TOLERANCE + rounding)
    if len(wrong):
        frame = int(wrong[0]) + 1
        worst = float(np.abs(steps - 1 / fps).max())
        return (
            frame,
            f"steps of {1 / fps:.4f} s ({fps:g} frames/s)",
            f"a step of {steps[frame - 1]:.4f} s; {len(wrong)} of {len(steps)} steps are off, by up to {worst:.4f} s",
        )
    drift = float(times[-1] - times[0]) - (len(times) - 1) / fps
    if abs(drift) > 0.5 / fps:
        return len(times) - 1, f"{fps:g} frames/s", f"a clock that is {drift:.4f} s off after {len(times)} frames"
    return None


def _check_clock(table: Table, episode: EpisodeFiles, times: np.ndarray, fps: float) -> None:
    fault = clock_fault(times, fps)
    if fault is not None:
        frame, wanted, found = fault
        raise table.fault(
            "the timestamps disagree with the frame rate of meta/info.json",
            episode.first_row + frame,
            wanted=wanted,
            found=found,
            remedy="repair them (timestamp = frame_index / fps) if the frames are evenly spaced in truth, or read on "
            "with --allow='[timestamps]', which matches frames to video by number and takes fps as true",
        )


def _tasks(table: Table, episode: EpisodeFiles, layout: DatasetLayout, column: np.ndarray | None) -> np.ndarray:
    """Return the task numbers of an episode's frames, each of them in the task list."""
    if column is None:
        numbers = [number for number, task in layout.tasks.items() if task in episode.tasks]
        if len(numbers) != 1:
            raise DataError(
                f"which task episode {episode.index} shows is not known: {table.path}",
                wanted="a column task_index, or one task in the episode list",
                found=f"no such column, and the tasks {list(episode.tasks)}",
                remedy="add the column task_index to the data files",
            )
        return np.full(episode.length, numbers[0], np.int64)
    wrong = np.flatnonzero(~np.isin(column, list(layout.tasks)))
    if len(wrong):
        raise table.fault(
            "the task number is not in the task list",
            episode.first_row + int(wrong[0]),
            wanted=f"one of {sorted(layout.tasks)[:20]}",
            found=str(column[wrong[0]]),
            remedy=f"complete the task list in meta/; {DOWNLOAD_AGAIN}",
        )
    return column


def _check_texts(episode: EpisodeFiles, layout: DatasetLayout, numbers: np.ndarray) -> None:
    for number in np.unique(numbers).tolist():
        if layout.tasks[number].replace("_", " ").strip():
            continue
        raise DataError(
            f"task {number}, which episode {episode.index} shows, has no text: {layout.meta_files[1]}",
            wanted="an instruction, which is what the policy is told to do",
            found=repr(layout.tasks[number]),
            remedy=f"write the instruction into the task list, or leave its episodes out: {excluding(episode.index)}",
        )


def _tasks_differ(table: Table, episode: EpisodeFiles, layout: DatasetLayout, numbers: np.ndarray) -> bool:
    """Return whether the episode list words the tasks of an episode otherwise than the task list does.

    Raises DataError where it names another task of the list instead: then one of the two is wrong.
    """
    shown = {layout.tasks[number] for number in np.unique(numbers).tolist()}
    listed = set(episode.tasks)
    if not listed or shown <= listed:
        return False
    others = [task for task in episode.tasks if task in layout.tasks.values()]
    if others and not shown & listed:
        raise DataError(
            f"the episode list and the frames name different tasks for episode {episode.index}: {table.path}",
            wanted=f"{', '.join(map(repr, others))} (the episode list, {layout.meta_files[-1]})",
            found=f"{', '.join(map(repr, sorted(shown)))} (task_index of its frames)",
            remedy="find out which is right and correct the other; if the frames are right: --allow='[tasks]'",
        )
    return True
