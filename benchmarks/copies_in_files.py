"""Change one thing in a data set's files (v2.0, v2.1 or v3.0) and leave the rest true: behind `altered_copies.py`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pi05.data.lerobot.encoder import VideoEncoder, quality_for
from pi05.data.lerobot.feature_stats import number_stats
from pi05.data.lerobot.video import VideoReader, index_frames

STATE, ACTION = "observation.state", "action"
MOST_PIXELS = 200_000_000
"""Of all pictures of a camera that is encoded anew: CR5 has 163 million, which takes a minute."""


@dataclass
class Episode:
    """Numbers of one episode, to be written to."""

    state: np.ndarray
    action: np.ndarray


def read_info(root: Path) -> dict[str, Any]:
    """Return info.json."""
    return dict(json.loads((root / "meta" / "info.json").read_text()))


def change_info(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change info.json."""
    info = read_info(root)
    change(info)
    (root / "meta" / "info.json").write_text(json.dumps(info, indent=4))


def tables(root: Path) -> list[tuple[Path, pa.Table]]:
    """Return all data files in order."""
    return [(path, pq.read_table(path)) for path in sorted((root / "data").rglob("*.parquet"))]


def _vectors(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist())


def change_numbers(root: Path, change: Callable[[list[Episode], np.random.Generator], None]) -> None:
    """Let `change` write into the states and actions of all episodes; statistics are made anew."""
    files = tables(root)
    numbers = np.concatenate([table["episode_index"].to_numpy() for _, table in files])
    whole = {name: np.concatenate([_vectors(table[name]) for _, table in files]) for name in (STATE, ACTION)}
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    ends = np.append(starts[1:], len(numbers))
    episodes = [Episode(whole[STATE][a:b], whole[ACTION][a:b]) for a, b in zip(starts, ends, strict=True)]
    change(episodes, np.random.default_rng(0))
    first = 0
    for path, table in files:
        for name, values in whole.items():
            at = table.column_names.index(name)
            column = pa.array(list(values[first : first + table.num_rows])).cast(table.schema.field(at).type)
            table = table.set_column(at, table.schema.field(at), column)
        pq.write_table(table, path)
        first += table.num_rows
    _refresh(root, {name: [values[a:b] for a, b in zip(starts, ends, strict=True)] for name, values in whole.items()})


def _refresh(root: Path, parts: dict[str, list[np.ndarray]]) -> None:
    """Make the statistics of these columns true: of the set, and of the episodes."""
    for name, values in parts.items():
        true = number_stats(np.concatenate(values))
        change_statistics(root, name, functools.partial(_update, true), missing_is_well=True)
    lines = root / "meta" / "episodes_stats.jsonl"
    if lines.is_file():
        rows = [json.loads(line) for line in lines.read_text().splitlines() if line.strip()]
        for place, row in enumerate(rows):
            for name, values in parts.items():
                _update(number_stats(values[place]), row["stats"][name])
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in (root / "meta" / "episodes").rglob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            for name, values in parts.items():
                for key, value in number_stats(values[row["episode_index"]]).items():
                    if f"stats/{name}/{key}" in row:
                        row[f"stats/{name}/{key}"] = value.tolist()
        pq.write_table(pa.Table.from_pylist(rows), path)


def _update(true: dict[str, np.ndarray], stats: dict[str, Any]) -> None:
    stats.update({key: value.tolist() for key, value in true.items() if key in stats})


def change_statistics(
    root: Path, name: str, change: Callable[[dict[str, Any]], None], *, missing_is_well: bool = False
) -> None:
    """Change the statistics of a feature in `meta/stats.json`. Raises KeyError where there are none."""
    path = root / "meta" / "stats.json"
    if not path.is_file():
        if missing_is_well:
            return
        raise KeyError(f"no {path}")
    stats = json.loads(path.read_text())
    change(stats[name])
    path.write_text(json.dumps(stats))


def change_times(root: Path, change: Callable[[np.ndarray], np.ndarray], only: int | None = None) -> None:
    """Change the timestamps of every episode, or of one."""
    for path, table in tables(root):
        times, numbers = table["timestamp"].to_numpy().astype(np.float64).copy(), table["episode_index"].to_numpy()
        for episode in np.unique(numbers):
            if only is None or episode == only:
                times[numbers == episode] = change(times[numbers == episode])
        at = table.column_names.index("timestamp")
        field = table.schema.field(at)
        pq.write_table(table.set_column(at, field, pa.array(times).cast(field.type)), path)


def change_tasks(root: Path, change: Callable[[dict[int, str]], dict[int, str]], again: int | None = None) -> None:
    """Change the texts of the tasks, in the task list and in the episode list alike.

    With `again` the old text of that task stays, too, as a further task that every second of its episodes shows.
    """
    lines = root / "meta" / "tasks.jsonl"
    if lines.is_file():
        rows = [json.loads(line) for line in lines.read_text().splitlines() if line.strip()]
        before = {int(row["task_index"]): str(row["task"]) for row in rows}
    else:
        table = pq.read_table(root / "meta" / "tasks.parquet")
        text = next(name for name in table.column_names if name != "task_index")
        before = dict(zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True))
    after = change(before)
    moved: list[int] = []
    if again is not None:
        new = max(before) + 1
        after[new] = before[again]
        moved = _give_every_second(root, again, new)
    if lines.is_file():
        lines.write_text("".join(json.dumps({"task_index": n, "task": t}) + "\n" for n, t in after.items()))
    else:
        columns = {"task_index": list(after), text: list(after.values())}
        pq.write_table(pa.table(columns).replace_schema_metadata(table.schema.metadata), root / "meta/tasks.parquet")
    words = {text: after[number] for number, text in before.items()}
    _rewrite_episode_list(root, lambda row: row if row["episode_index"] in moved else _said_anew(row, words))
    change_info(root, lambda info: info.update(total_tasks=len(after)))


def _said_anew(row: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    return row | {"tasks": [words.get(text, text) for text in row["tasks"]]}


def _give_every_second(root: Path, old: int, new: int) -> list[int]:
    """Give every second episode of task `old` the task `new`; return these."""
    moved: list[int] = []
    seen = 0
    for path, table in tables(root):
        tasks, numbers = table["task_index"].to_numpy().copy(), table["episode_index"].to_numpy()
        for episode in np.unique(numbers[tasks == old]).tolist():
            seen += 1
            if seen % 2 == 0:
                tasks[(numbers == episode) & (tasks == old)] = new
                moved.append(int(episode))
        at = table.column_names.index("task_index")
        pq.write_table(table.set_column(at, "task_index", pa.array(tasks)), path)
    if not moved:
        raise ValueError("one episode only")
    return moved


def _rewrite_episode_list(root: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    lines = root / "meta" / "episodes.jsonl"
    if lines.is_file():
        rows = [change(json.loads(line)) for line in lines.read_text().splitlines() if line.strip()]
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in (root / "meta" / "episodes").rglob("*.parquet"):
        rows = [change(row) for row in pq.read_table(path).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows), path)


Pictures = Callable[[list[np.ndarray], list[np.ndarray]], list[np.ndarray]]


def change_pictures(root: Path, camera: int, change: Pictures) -> None:
    """Encode all videos of one camera anew; `change` gets its pictures, and those of the other camera, file by file.

    A set with one camera gives its own pictures twice. Raises IndexError for a camera that is not there, ValueError
    for more pictures than are encoded in a minute.
    """
    info = read_info(root)
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    own, other = cameras[camera], cameras[1 - camera] if len(cameras) > 1 else cameras[0]
    height, width = info["features"][own]["shape"][:2]
    if height * width * info["total_frames"] > MOST_PIXELS:
        raise ValueError("too many pictures")
    for path in sorted((root / "videos").rglob("*.mp4")):
        if own not in path.parts:
            continue
        images = _decode(path)
        beside = Path(*[other if part == own else part for part in path.parts])
        images = change(images, images if beside == path else _decode(beside))
        height, width = images[0].shape[:2]
        encoder = VideoEncoder(path, int(info["fps"]), height, width)
        for image in images:
            encoder.add(image)
        encoder.close()
    change_info(root, lambda info: _describe(info["features"][own], height, width))


def _describe(feature: dict[str, Any], height: int, width: int) -> None:
    """Let info.json say how large the pictures are now, and how the videos are encoded, where it says so at all."""
    feature["shape"] = [height, width, 3]
    now = {"codec": "h264", "pix_fmt": quality_for(height, width).pixel_format, "height": height, "width": width}
    for details in (feature.get("info"), feature.get("video_info")):
        if isinstance(details, dict):
            details.update({f"video.{key}": value for key, value in now.items() if f"video.{key}" in details})


def _decode(path: Path) -> list[np.ndarray]:
    index = index_frames(path)
    reader = VideoReader(path, index)
    images = [reader.frame(number) for number in range(len(index))]
    reader.close()
    return images
