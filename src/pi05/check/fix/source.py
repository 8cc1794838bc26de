"""A data set to be repaired, read as it lies: what its lists say, and which of its rows are whose.

Nothing is believed of the lists that the files can say better: rows are counted, and in v3.0 they are found by their
`episode_index` where the list points to another file. Leaves out whether an episode is whole (`judge.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pi05.check.fix.cells import to_numpy
from pi05.data.lerobot.files import defect, read_json_lines, read_parquet
from pi05.data.lerobot.info import read_info
from pi05.data.lerobot.layout import DatasetLayout, EpisodeFiles, check_presence, ghost_camera, is_video
from pi05.data.lerobot.meta import read_lists
from pi05.data.lerobot.vectors import Vector, choose_vector
from pi05.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the rows of an episode really are."""

    table: Path
    first: int
    """Row of its first frame."""
    count: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set with all that is wrong with it."""

    root: Path
    info: dict[str, Any]
    layout: DatasetLayout
    """As listed: lengths and first rows are those of the list, not those of the files."""
    state: Vector
    action: Vector
    places: dict[int, Place | str]
    """By episode: its rows, or why it has none."""
    listed_twice: list[int]
    rebuilt: list[str] = field(default_factory=list)
    """Lists of `meta/` that were missing, and were put together from the data files."""

    @property
    def version(self) -> str:
        """v2.0, v2.1 or v3.0."""
        return self.layout.version

    @property
    def cameras(self) -> list[str]:
        """Cameras stored as video."""
        return [name for name, feature in self.layout.features.items() if is_video(feature)]

    @property
    def columns(self) -> list[str]:
        """Columns that the state and the action consist of."""
        return list(dict.fromkeys(column.name for vector in (self.state, self.action) for column in vector.columns))


def read_source(
    root: Path,
    drop_cameras: Sequence[str] = (),
    state: Sequence[str] | None = None,
    action: Sequence[str] | None = None,
) -> Source:
    """Read a data set that may be broken. Raises DataError where even its lists cannot be read, or a camera is a ghost.

    `state` and `action` are the columns that the user joins, as for training.
    """
    info, info_path = read_info(root)
    rebuilt: list[str] = []
    rows, tasks = (None, None) if info["codebase_version"] == "v3.0" else _lost_lists(root, rebuilt)
    layout, info = read_lists(root, drop_cameras, lambda _: False, rows=rows, tasks=tasks)
    counts = Counter(episode.index for episode in layout.episodes)
    first = {episode.index: episode for episode in reversed(layout.episodes)}
    layout.episodes = [first[number] for number in sorted(first)]
    _refuse_ghosts(layout)
    return Source(
        root=root,
        info=info,
        layout=layout,
        state=choose_vector("state", layout.features, state, info_path),
        action=choose_vector("action", layout.features, action, info_path),
        places=_places_v3(layout) if layout.version == "v3.0" else _places_v2(layout),
        listed_twice=sorted(number for number, count in counts.items() if count > 1),
        rebuilt=rebuilt,
    )


def _refuse_ghosts(layout: DatasetLayout) -> None:
    """Raise DataError for a camera without a single video: whether it was filmed or not downloaded cannot be told."""
    for camera in (name for name, feature in layout.features.items() if is_video(feature)):
        paths = [episode.clips[camera].path for episode in layout.episodes if camera in episode.clips]
        if not any(path.is_file() for path in paths):
            where = paths[0] if paths else layout.meta_files[-1]
            raise ghost_camera(camera, "not one video file", where)
    if layout.episodes and not any(episode.table.is_file() for episode in layout.episodes):
        check_presence(layout)


def _lost_lists(root: Path, rebuilt: list[str]) -> tuple[list[dict[str, Any]] | None, dict[int, str] | None]:
    """Return the episodes of a v2.x set by its data files, and its tasks by the episode list, where these are lost."""
    episodes, tasks = root / "meta" / "episodes.jsonl", root / "meta" / "tasks.jsonl"
    lost_episodes, lost_tasks = defect(episodes) is not None, defect(tasks) is not None
    if lost_episodes and lost_tasks:
        return None, None  # nothing tells what the robot was asked to do: the reader's own words
    files = {
        int(match[1]): path
        for path in sorted(root.glob("data/**/*.parquet"))
        if (match := re.fullmatch(r"episode_(\d+)\.parquet", path.name))
    }
    if lost_episodes:
        rebuilt.append("meta/episodes.jsonl")
        return [{"episode_index": number, "length": 0, "tasks": []} for number in sorted(files)], None
    if lost_tasks:
        rebuilt.append("meta/tasks.jsonl")
        return None, _tasks_by_episodes(episodes, files)
    return None, None


def _tasks_by_episodes(episodes: Path, files: dict[int, Path]) -> dict[int, str]:
    """Return the text of each task number whose episodes have one number and one text, all of them the same."""
    texts: dict[int, set[str]] = {}
    for row in read_json_lines(episodes, "episode list", ("episode_index", "tasks")):
        path, listed = files.get(row["episode_index"]), row["tasks"]
        if path is None or not isinstance(listed, list) or len(listed) != 1:
            continue
        try:
            numbers = pq.read_table(path, columns=["task_index"])["task_index"].unique().to_pylist()
        except (OSError, ValueError, KeyError):  # judged, and told, when the episode is
            continue
        if len(numbers) == 1 and isinstance(numbers[0], int):
            texts.setdefault(numbers[0], set()).add(str(listed[0]))
    return {number: found.pop() for number, found in sorted(texts.items()) if len(found) == 1}


def _places_v2(layout: DatasetLayout) -> dict[int, Place | str]:
    """Return the rows of each episode: all of its file's."""
    places: dict[int, Place | str] = {}
    for episode in layout.episodes:
        count = _count_rows(episode.table)
        places[episode.index] = count if isinstance(count, str) else Place(table=episode.table, first=0, count=count)
    return places


def _count_rows(path: Path) -> int | str:
    """Return the rows of a data file, or why it cannot be read."""
    found = defect(path)
    if found is not None:
        return f"its data file is missing ({found}): {path.name}"
    try:
        with pq.ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    except (OSError, ValueError) as error:
        return f"its data file cannot be read ({str(error).splitlines()[0]}): {path.name}"


def _places_v3(layout: DatasetLayout) -> dict[int, Place | str]:
    """Return the rows of each episode, by the column episode_index over all data files."""
    listed: dict[Path, list[EpisodeFiles]] = {}
    for episode in layout.episodes:
        listed.setdefault(episode.table, []).append(episode)
    places: dict[int, Place | str] = {}
    for path in sorted({*listed, *(layout.root / "data").rglob("*.parquet")}):
        members = listed.get(path, [])
        count = _count_rows(path)
        if isinstance(count, str):
            places |= {episode.index: count for episode in members if episode.index not in places}
            continue
        _find_rows(path, members, count, places)
    return {
        episode.index: places.get(episode.index, f"no row of {episode.table.name} is its own")
        for episode in layout.episodes
    }


def _find_rows(path: Path, members: list[EpisodeFiles], count: int, places: dict[int, Place | str]) -> None:
    """Put the rows of one file's episodes into `places`."""
    lengths = [episode.length for episode in members]
    try:
        column = to_numpy(read_parquet(path, "data file", ["episode_index"])["episode_index"], 1).reshape(-1)
    except (DataError, KeyError, ValueError):
        column = np.zeros(0, np.int64)
    starts = np.flatnonzero(np.diff(column, prepend=np.nan)) if len(column) else np.zeros(0, np.int64)
    runs = np.diff(np.append(starts, len(column))).tolist()
    if sum(lengths) == count and (not len(column) or runs == lengths):  # numbered otherwise, or not at all
        for episode, first in zip(members, np.cumsum([0, *lengths]).tolist(), strict=False):
            places[episode.index] = Place(table=path, first=first, count=episode.length)
        return
    for first, length in zip(starts.tolist(), runs, strict=True):
        number = int(column[first])
        before = places.get(number)
        if isinstance(before, Place):
            places[number] = "its rows lie in several places"
        elif before is None or not before.startswith("its rows"):
            places[number] = Place(table=path, first=first, count=length)
