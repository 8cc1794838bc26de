"""Read `meta/` of a LeRobot data set: versions v2.0, v2.1 (a file per episode) and v3.0 (episodes share files).

```
v2.x  meta/info.json  tasks.jsonl  episodes.jsonl          v3.0  meta/info.json  tasks.parquet
      data/chunk-000/episode_000003.parquet                      meta/episodes/chunk-000/file-000.parquet
      videos/chunk-000/CAMERA/episode_000003.mp4                 data/chunk-000/file-000.parquet
                                                                 videos/CAMERA/chunk-000/file-000.mp4
```

Source: LeRobot's data set format, as its versions 0.3 (v2.x) and 0.6 (v3.0) write it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pi05.data.lerobot.episode_table import read_episode_table
from pi05.data.lerobot.files import read_json_lines, require_whole, wrong_content
from pi05.data.lerobot.info import read_features, read_info
from pi05.data.lerobot.layout import (
    Clip,
    DatasetLayout,
    EpisodeFiles,
    IsUsed,
    all_of_them,
    check_clips,
    check_presence,
    check_totals,
    is_video,
    unused_splits,
)
from pi05.data.lerobot.tasks import read_task_lines, read_task_table
from pi05.data.lerobot.templates import fill, locate


def find_layout(
    root: Path, drop_cameras: Sequence[str] = (), is_used: IsUsed = all_of_them, *, all_there: bool = True
) -> DatasetLayout:
    """Find and check the parts of the data set at `root`; files of unused episodes may be missing. Raises DataError.

    With `all_there=False` its metadata is enough.
    """
    layout, info = read_lists(root, drop_cameras, is_used)
    check_totals(layout, info, layout.meta_files[0])
    told = unused_splits(info.get("splits"), len(layout.episodes))
    layout.notes += [] if told is None else [told]
    if all_there:
        check_presence(layout, is_used)
    check_clips(layout)
    return layout


def read_lists(
    root: Path,
    drop_cameras: Sequence[str] = (),
    is_used: IsUsed = all_of_them,
    *,
    rows: Sequence[dict[str, Any]] | None = None,
    tasks: dict[int, str] | None = None,
) -> tuple[DatasetLayout, dict[str, Any]]:
    """Read what `meta/` lists, and info.json; whether the lists agree with each other and with the files is not asked.

    `rows` (episode_index, length, tasks) and `tasks` stand in the place of the lists of a v2.x set that has lost them.
    Raises DataError for what cannot be read.
    """
    info, info_path = read_info(root)
    version, robot = str(info["codebase_version"]), info.get("robot_type")
    layout = DatasetLayout(
        root=root,
        version=version,
        fps=float(info["fps"]),
        robot_type=robot if isinstance(robot, str) else None,
        features=read_features(info, info_path, drop_cameras),
        tasks={},
        episodes=[],
        meta_files=[info_path],
    )
    _require_lists(layout, info)
    if version == "v3.0":
        _read_v3(layout, info, is_used)
    else:
        _read_v2(layout, info, rows, tasks)
    return layout, info


def _require_lists(layout: DatasetLayout, info: dict[str, Any]) -> None:
    """Raise DataError where episode or task list are those of another version, or no episode was ever saved."""
    meta, info_path = layout.root / "meta", layout.meta_files[0]
    new = [*meta.glob("episodes/chunk-*/file-*.parquet"), *meta.glob("tasks.parquet")]
    old = [path for path in (meta / "episodes.jsonl", meta / "tasks.jsonl") if path.exists()]
    found, others, other = (new, old, "v2.1") if layout.version == "v3.0" else (old, new, "v3.0")
    if others and not found:
        raise wrong_content(
            f"the data set calls itself {layout.version}, and its files look like {other}: {info_path}",
            wanted=f"task list and episode list of {layout.version}",
            found=", ".join(str(path.relative_to(layout.root)) for path in others),
            remedy=f"set codebase_version to {other} in meta/info.json, with the path templates of that version, "
            "or convert the files with LeRobot's own converter",
        )
    saved = [path for path in found if path.name != "tasks.parquet" and path.name != "tasks.jsonl"]
    if info.get("total_episodes") == 0 and not any(path.stat().st_size for path in saved):
        raise wrong_content(
            f"no episode was saved in this data set: {info_path}",
            wanted="at least one episode",
            found="total_episodes 0, and no list of episodes",
            remedy="record an episode to its end (recorders write an episode when it is saved), or give another folder",
        )


def _tasks_of(row: dict[str, Any]) -> tuple[str, ...]:
    listed = row.get("tasks")
    if isinstance(listed, str):
        return (listed,)
    return tuple(str(task) for task in listed) if isinstance(listed, list | tuple) else ()


def _read_v2(
    layout: DatasetLayout,
    info: dict[str, Any],
    rows: Sequence[dict[str, Any]] | None,
    tasks: dict[int, str] | None,
) -> None:
    meta, info_path = layout.root / "meta", layout.meta_files[0]
    layout.meta_files += [meta / "tasks.jsonl", meta / "episodes.jsonl"]
    layout.tasks = read_task_lines(layout.meta_files[1]) if tasks is None else tasks
    rows = _read_episode_lines(layout.meta_files[2]) if rows is None else rows
    size = require_whole({"chunks_size": 1000, **info}, "chunks_size", info_path, "the data set description") or 1000
    videos = [name for name, feature in layout.features.items() if is_video(feature)]
    moved: set[str] = set()
    start = 0
    for row in rows:
        index, length = row["episode_index"], row["length"]
        values = {"episode_chunk": index // size, "episode_index": index}
        table = locate(fill(info.get("data_path"), layout.root, info_path, **values), moved)
        clips = {}
        for name in videos:
            clips[name] = Clip(
                locate(fill(info.get("video_path"), layout.root, info_path, video_key=name, **values), moved), None
            )
        layout.episodes.append(EpisodeFiles(index, start, length, _tasks_of(row), table, 0, clips))
        start += length
    if moved:
        layout.notes.append(
            f"{info_path}: its path templates do not match the files' chunk folders; found by episode number: "
            + ", ".join(sorted(moved))
        )


def _read_episode_lines(path: Path) -> list[dict[str, Any]]:
    rows = read_json_lines(path, "episode list", ("episode_index", "length"))
    for place, row in enumerate(rows, start=1):
        row |= {name: require_whole(row, name, path, f"row {place}") for name in ("episode_index", "length")}
    return sorted(rows, key=lambda row: int(row["episode_index"]))


def _read_v3(layout: DatasetLayout, info: dict[str, Any], is_used: IsUsed) -> None:
    tasks = layout.root / "meta" / "tasks.parquet"
    layout.tasks = read_task_table(tasks)
    layout.meta_files.append(tasks)
    rows = read_episode_table(layout, is_used)
    info_path, rows_before = layout.meta_files[0], dict[Path, int]()
    for row in rows:
        index, length, start = row["episode_index"], row["length"], row["dataset_from_index"]
        values = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        path = fill(info.get("data_path"), layout.root, info_path, **values)
        clips = {}
        for camera in (name for name, feature in layout.features.items() if is_video(feature)):
            values = {key: row[f"videos/{camera}/{key}"] for key in ("chunk_index", "file_index")}
            begin = row[f"videos/{camera}/from_timestamp"]
            if begin is None or None in values.values():
                continue  # an unused episode's
            clip = fill(info.get("video_path"), layout.root, info_path, video_key=camera, **values)
            clips[camera] = Clip(clip, float(begin))
        files = EpisodeFiles(index, start, length, _tasks_of(row), path, rows_before.get(path, 0), clips)
        layout.episodes.append(files)
        rows_before[path] = rows_before.get(path, 0) + length
