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

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pi05.data.lerobot.features import read_features
from pi05.data.lerobot.files import (
    DOWNLOAD_AGAIN,
    dropping,
    excluding,
    open_parquet,
    read_json_lines,
    read_meta,
    read_parquet,
    whole_number,
    wrong_content,
)
from pi05.data.lerobot.layout import (
    Clip,
    DatasetLayout,
    EpisodeFiles,
    IsUsed,
    all_of_them,
    check_clips,
    check_presence,
    check_totals,
    ghost_camera,
    is_video,
    unused_splits,
)
from pi05.data.lerobot.tasks import read_task_lines, read_task_table
from pi05.errors import DataError

VERSIONS = ("v2.0", "v2.1", "v3.0")


def find_layout(
    root: Path, drop_cameras: Sequence[str] = (), is_used: IsUsed = all_of_them, *, all_there: bool = True
) -> DatasetLayout:
    """Find and check the parts of the data set at `root`; files of unused episodes may be missing. Raises DataError.

    With `all_there=False` its metadata is enough.
    """
    if not root.is_dir():
        raise DataError(
            f"there is no data set at {root}",
            wanted="a folder with meta/info.json in it",
            found="a file" if root.exists() else "no such folder",
            remedy="give the folder that holds meta/, data/ and videos/ (--dataset.root)",
        )
    info_path = root / "meta" / "info.json"
    if not info_path.exists():
        _require_no_folder_of_sets(root)
    info = read_meta(info_path, "data set description (meta/info.json)")
    version = str(info.get("codebase_version"))
    if version not in VERSIONS:
        raise DataError(
            f"the data set has an unknown format version: {info_path}",
            wanted="codebase_version " + ", ".join(VERSIONS),
            found=f"codebase_version {info.get('codebase_version')!r}",
            remedy="convert it with LeRobot's own converters to v2.1 or v3.0",
        )
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not math.isfinite(fps) or fps <= 0:
        raise wrong_content(
            f"the frame rate of the data set is no positive number: {info_path}",
            wanted="fps as a number above 0, for example 30",
            found=f"fps {fps!r}",
            remedy="write the rate of the recording as a number into meta/info.json",
        )
    layout = DatasetLayout(
        root=root,
        version=version,
        fps=float(fps),
        robot_type=info.get("robot_type"),
        features=read_features(info, info_path, drop_cameras),
        tasks={},
        episodes=[],
        meta_files=[info_path],
    )
    _require_lists(layout, info)
    if version == "v3.0":
        _read_v3(layout, info, is_used)
    else:
        _read_v2(layout, info)
    check_totals(layout, info, info_path)
    told = unused_splits(info.get("splits"), len(layout.episodes))
    layout.notes += [] if told is None else [told]
    if all_there:
        check_presence(layout, is_used)
    check_clips(layout)
    return layout


def _require_no_folder_of_sets(root: Path) -> None:
    """Raise DataError where `root` has no meta/info.json, and folders in it do."""
    inside = sorted({path.parents[1] for depth in ("*", "*/*") for path in root.glob(f"{depth}/meta/info.json")})
    if inside:
        raise DataError(
            f"{root} is a folder of data sets, not a data set",
            wanted="a folder with meta/info.json in it",
            found=f"{len(inside)} folders that have one: {', '.join(map(str, inside[:8]))}",
            remedy=f"give one of them, for example --dataset.root={inside[0]}",
        )


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


def fill(template: object, root: Path, info_path: Path, **values: object) -> Path:
    """Fill a path template of info.json and return the path below `root`."""
    try:
        return root / str(template).format(**values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise wrong_content(
            f"a path template of the data set cannot be filled: {info_path}",
            wanted=f"a template of {', '.join(f'{{{name}}}' for name in values)}",
            found=f"{template!r} ({type(error).__name__}: {error})",
            remedy="correct data_path or video_path in meta/info.json",
        ) from error


def _whole(row: dict[str, Any], name: str, path: Path, place: str) -> int:
    """Return a whole number of a list. Raises DataError that names file, row and field."""
    number = whole_number(row[name])
    if number is None:
        raise wrong_content(
            f"{name} is no whole number in {place}: {path}",
            wanted="a whole number",
            found=repr(row[name]),
            remedy=f"correct it in {path.name}",
        )
    return number


def _tasks_of(row: dict[str, Any]) -> tuple[str, ...]:
    listed = row.get("tasks")
    if isinstance(listed, str):
        return (listed,)
    return tuple(str(task) for task in listed) if isinstance(listed, list | tuple) else ()


def _read_v2(layout: DatasetLayout, info: dict[str, Any]) -> None:
    meta, info_path = layout.root / "meta", layout.meta_files[0]
    tasks, episodes = meta / "tasks.jsonl", meta / "episodes.jsonl"
    layout.meta_files += [tasks, episodes]
    layout.tasks = read_task_lines(tasks)
    rows = read_json_lines(episodes, "episode list", ("episode_index", "length"))
    for place, row in enumerate(rows, start=1):
        row |= {name: _whole(row, name, episodes, f"row {place}") for name in ("episode_index", "length")}
    rows.sort(key=lambda row: row["episode_index"])
    size = _whole({"chunks_size": 1000, **info}, "chunks_size", info_path, "the data set description") or 1000
    videos = [name for name, feature in layout.features.items() if is_video(feature)]
    moved: set[str] = set()
    start = 0
    for row in rows:
        index, length = row["episode_index"], row["length"]
        values = {"episode_chunk": index // size, "episode_index": index}
        table = _locate(fill(info.get("data_path"), layout.root, info_path, **values), moved)
        clips = {}
        for name in videos:
            clips[name] = Clip(
                _locate(fill(info.get("video_path"), layout.root, info_path, video_key=name, **values), moved), None
            )
        layout.episodes.append(EpisodeFiles(index, start, length, _tasks_of(row), table, 0, clips))
        start += length
    if moved:
        layout.notes.append(
            f"{info_path}: its path templates do not match the files' chunk folders; found by episode number: "
            + ", ".join(sorted(moved))
        )


def _locate(path: Path, moved: set[str]) -> Path:
    """Return `path`, or the one file of the same episode in another chunk folder when the template is wrong."""
    if path.exists():
        return path
    chunk = next((parent for parent in path.parents if parent.name.startswith("chunk-")), None)
    if chunk is None:
        return path
    others = sorted(chunk.parent.glob(f"chunk-*/{path.relative_to(chunk)}"))
    if len(others) != 1:
        return path
    moved.add(chunk.parent.name)
    return others[0]


def _read_v3(layout: DatasetLayout, info: dict[str, Any], is_used: IsUsed) -> None:
    tasks = layout.root / "meta" / "tasks.parquet"
    layout.tasks = read_task_table(tasks)
    layout.meta_files.append(tasks)
    rows = _episode_rows_v3(layout, is_used)
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


def _episode_rows_v3(layout: DatasetLayout, is_used: IsUsed) -> list[dict[str, Any]]:
    folder = layout.root / "meta" / "episodes"
    files = sorted(folder.glob("chunk-*/file-*.parquet"))
    if not files:
        raise DataError(
            f"the list of episodes is not there: {folder}",
            wanted="chunk-000/file-000.parquet and so on",
            found="no such file",
            remedy=DOWNLOAD_AGAIN,
        )
    wanted = ["episode_index", "length", "dataset_from_index", "data/chunk_index", "data/file_index"]
    for name, feature in layout.features.items():
        if is_video(feature):
            wanted += [f"videos/{name}/{key}" for key in ("chunk_index", "file_index", "from_timestamp")]
    rows: list[dict[str, Any]] = []
    for path in files:
        with open_parquet(path, "episode list") as file:
            columns = list(file.schema_arrow.names)
        _require_columns(path, wanted, columns)
        table = read_parquet(path, "episode list", [name for name in (*wanted, "tasks") if name in columns])
        rows += table.to_pylist()
        for place, row in enumerate(rows[len(rows) - table.num_rows :], start=1):
            _check_row(row, path, place, wanted, is_used)
    layout.meta_files += files
    return sorted(rows, key=lambda row: int(row["episode_index"]))


def _check_row(row: dict[str, Any], path: Path, place: int, wanted: list[str], is_used: IsUsed) -> None:
    """Make whole numbers of what pandas made floats of. Raises DataError for what is none, and for empty cells."""
    for name in wanted:
        clip = name.startswith("videos/")
        if row[name] is None and clip:
            if is_used(row["episode_index"]):
                raise _no_clip(name.split("/")[1], row["episode_index"], path)
        elif not name.endswith("from_timestamp"):
            row[name] = _whole(row, name, path, f"row {place}")
        elif not isinstance(row[name], float | int) or not math.isfinite(row[name]):
            raise wrong_content(
                f"{name} is no time in row {place}: {path}",
                wanted="a time in seconds",
                found=repr(row[name]),
                remedy=f"correct it in {path.name}",
            )


def _no_clip(camera: str, episode: int, path: Path) -> DataError:
    return wrong_content(
        f"camera {camera} has no video in episode {episode}: {path}",
        wanted=f"videos of {camera} for every episode that is trained on",
        found="empty cells in the list of episodes",
        remedy=f"leave the camera out with {dropping(camera)}, or the episode with {excluding(episode)}",
    )


def _require_columns(path: Path, wanted: list[str], columns: list[str]) -> None:
    missing = [name for name in wanted if name not in columns]
    ghosts = sorted({name.split("/")[1] for name in missing if name.startswith("videos/")})
    if ghosts:
        raise ghost_camera(ghosts[0], f"no columns videos/{ghosts[0]}/… in {path}", path)
    if missing:
        raise wrong_content(
            f"the episode list has no column {', '.join(missing)}: {path}",
            wanted=", ".join(wanted),
            found=", ".join(name for name in columns if not name.startswith("stats/")),
            remedy="write the list of episodes anew as LeRobot does",
        )
