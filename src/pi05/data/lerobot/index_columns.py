"""One pass over a data set's index columns at opening: does what the files hold agree with the episode list?

Checks rows per episode, episode, frame and global numbers, task numbers and the clock; keeps time and task of every
frame. Values and pictures are not read here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int64

from pi05.data.lerobot.columns import Table
from pi05.data.lerobot.files import DOWNLOAD_AGAIN, wrong_content
from pi05.data.lerobot.footers import require_ends
from pi05.data.lerobot.layout import DatasetLayout, EpisodeFiles, IsUsed, all_of_them
from pi05.data.lerobot.tasks import check_texts, tasks_differ, tasks_of_frames
from pi05.errors import DataError

CLOCK_TOLERANCE = 1e-4
"""Largest error of a time step in seconds: LeRobot's own tolerance."""
LATE_START = "do not start at time 0"
NO_TASK = -1
"""Task number of frames that nobody will read."""
MOST_UNREAD = 2**27
"""Frames, in all, of episodes that are not used and whose files cannot be read: nobody can count them."""
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
    passed: list[Passed]
    """What would have refused the set, and was allowed."""


@dataclass(frozen=True)
class Passed:
    """One episode's fault that `allow` passes over."""

    check: str
    """The word of `allow`: timestamps, index or tasks."""
    episode: int
    fault: DataError


def read_frame_table(
    layout: DatasetLayout,
    tables: Mapping[Path, Table],
    allow: Collection[str],
    images: Collection[str] = (),
    vectors: Mapping[str, int] | None = None,
    is_used: IsUsed = all_of_them,
) -> FrameTable:
    """Read and check the index columns of all data files. `allow` may hold 'timestamps', 'index' and 'tasks'.

    Every file must have the columns `images` of pictures and `vectors` of so many numbers; others of info.json may be
    missing. Files that hold unused episodes only may be damaged or missing; their frames have no task.
    """
    require_ends([episode for episode in layout.episodes if is_used(episode.index)])
    skipped = set()
    for path, table in tables.items():
        try:
            _check_counts(table, layout, images, vectors or {}, is_used)
        except DataError:
            if any(is_used(episode.index) for episode in table.episodes):
                raise
            skipped.add(path)
    _check_unread([episode for path in skipped for episode in tables[path].episodes], layout)
    total = sum(episode.length for episode in layout.episodes)
    frames = FrameTable(np.zeros(total, np.float32), np.full(total, NO_TASK, np.int64), set(), skipped, [])
    reworded: list[int] = []
    for path, table in tables.items():
        if path in skipped:
            continue
        try:
            reworded += _read_table(table, layout, allow, is_used, frames)
        except DataError:
            if any(is_used(episode.index) for episode in table.episodes):
                raise
            frames.skipped.add(path)
    if reworded:
        layout.notes.append(
            f"{len(reworded)} of {len(layout.episodes)} episodes have other task texts in the episode list than in the "
            f"task list (the first: {min(reworded)}); those of the task list are used"
        )
    if frames.late:
        layout.notes.append(
            f"{len(frames.late)} of {len(layout.episodes)} episodes {LATE_START} (the first: "
            f"{min(frames.late)}); frames are matched to video by number"
        )
    return frames


def _check_counts(
    table: Table,
    layout: DatasetLayout,
    images: Collection[str],
    vectors: Mapping[str, int],
    is_used: IsUsed,
) -> None:
    """Compare what `meta/` says of one file with its footer, before anything of such a size is made."""
    _check_columns(table, [*vectors, *images, *(name for name in INDEX_COLUMNS if name in layout.features)])
    for name in images:
        table.require_pictures(name)
    footer = table.footer
    for name in INDEX_COLUMNS:
        if name in footer.kinds and not footer.holds_numbers(name):
            raise wrong_content(
                f"{name} is no column of numbers in the data file of episode {table.episodes[0].index}: {table.path}",
                wanted="one number in every row, none missing",
                found=f"{footer.values[name]} values of type {footer.kinds[name]} in {footer.num_rows} rows",
                remedy="write the data file anew as LeRobot does",
                topic="columns",
                episodes=table.numbers,
            )
    if footer.num_rows != table.num_rows:
        there = "episode_index" in footer.kinds
        _check_rows(table, table.read(["episode_index"])["episode_index"].reshape(-1) if there else None)
    unequal = {name: size for name, size in vectors.items() if size * footer.num_rows != footer.values[name]}
    if unequal:
        table.read_vectors(unequal, [episode for episode in table.episodes if not is_used(episode.index)])


def _check_unread(episodes: Sequence[EpisodeFiles], layout: DatasetLayout) -> None:
    """Raise DataError where episodes that nobody can count claim more frames than there is room for."""
    unread = sum(episode.length for episode in episodes)
    if unread > MOST_UNREAD:
        longest = max(episodes, key=lambda episode: episode.length)
        raise wrong_content(
            f"the episode list cannot be: {layout.meta_files[-1]}",
            wanted=f"at most {MOST_UNREAD:,} frames in episodes whose data files cannot be read",
            found=f"{unread:,}, of which {longest.length:,} in episode {longest.index}",
            remedy="correct the lengths in the list of episodes",
        )


def _read_table(
    table: Table,
    layout: DatasetLayout,
    allow: Collection[str],
    is_used: IsUsed,
    frames: FrameTable,
) -> list[int]:
    """Read one file into `frames`. Returns the episodes whose tasks the episode list words otherwise."""
    present = [name for name in INDEX_COLUMNS if name in table.column_names]
    values = {name: column.reshape(len(column)) for name, column in table.read(present).items()}
    _check_rows(table, values.get("episode_index"))
    reworded = []
    for episode in table.episodes:
        rows = slice(episode.first_row, episode.first_row + episode.length)
        place = slice(episode.start, episode.start + episode.length)
        with _passing("index", episode, allow, frames):
            _check_numbers(table, episode, {name: column[rows] for name, column in values.items()})
        times = values.get("timestamp")
        clock = np.arange(episode.length) / layout.fps if times is None else times[rows].astype(np.float64)
        with _passing("timestamps", episode, allow, frames):
            _check_clock(table, episode, clock, layout.fps)
        if abs(clock[0]) > CLOCK_TOLERANCE:
            frames.late.add(episode.index)
        frames.timestamps[place] = clock
        tasks = values.get("task_index")
        numbers = tasks_of_frames(table, episode, layout, None if tasks is None else tasks[rows])
        frames.task_index[place] = numbers
        if not is_used(episode.index):
            continue
        check_texts(episode, layout, numbers)
        with _passing("tasks", episode, allow, frames):
            if tasks_differ(table, episode, layout, numbers):
                reworded.append(episode.index)
    return reworded


@contextmanager
def _passing(check: str, episode: EpisodeFiles, allow: Collection[str], frames: FrameTable) -> Iterator[None]:
    """Note a fault in `frames.passed` where `allow` holds the name of this check; else it goes up."""
    try:
        yield
    except DataError as fault:
        if check not in allow:
            raise
        frames.passed.append(Passed(check, episode.index, fault))


def _check_columns(table: Table, needed: list[str]) -> None:
    columns = table.column_names
    missing = [name for name in needed if name not in columns]
    if missing:
        raise DataError(
            f"a column is missing in the data file of episode {table.episodes[0].index}: {table.path}",
            wanted=f"{', '.join(missing)} (named in meta/info.json)",
            found=", ".join(columns),
            remedy="correct the features in meta/info.json, or write the data file anew",
            topic="columns",
            episodes=table.numbers,
        )


def _check_rows(table: Table, episode_index: np.ndarray | None) -> None:
    """Compare the number of rows, and whose they are, with the episode list."""
    rows = table.row_groups[-1]
    remedy = f"the data file and meta/ are of different states of the set; {DOWNLOAD_AGAIN}"
    if episode_index is not None:
        common = min(rows, table.num_rows)
        wanted, at = np.zeros(common, np.int64), 0
        for listed in table.episodes:
            wanted[at : at + listed.length] = listed.index
            at += listed.length
            if at >= common:
                break
        wrong = np.flatnonzero(wanted != episode_index[:common])
        if len(wrong):
            row = int(wrong[0])
            raise table.fault(
                "the episode list disagrees with the data file",
                row,
                wanted=f"episode_index {wanted[row]} in row {row}",
                found=f"episode_index {episode_index[row]}",
                remedy=remedy,
                topic="rows",
            )
    if rows != table.num_rows:
        episode, _ = table.locate(min(rows, table.num_rows - 1))
        raise DataError(
            f"the episode list disagrees with the data file about episode {episode.index}: {table.path}",
            wanted=f"{table.num_rows} rows for the episodes {table.numbers[:8]}",
            found=f"{rows} rows",
            remedy=remedy,
            topic="rows",
            episodes=table.numbers,
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
