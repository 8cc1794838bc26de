"""Write `meta/` of the copy: info.json, task list, episode list with statistics, in the source's version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pi05.check.fix.links import V2_VIDEO, clip_places, video_files
from pi05.check.fix.plan import Kept, Plan
from pi05.check.fix.tables import V2_DATA, chunk_size, data_files, tasks_of
from pi05.check.fix.true_statistics import TrueStatistics
from pi05.data.lerobot import format_v3
from pi05.data.lerobot.files import read_json_lines, read_parquet

PREFIX_CHUNK, PREFIX_NUMBER = "{chunk:03d}", "{number:06d}"


def write_lists(plan: Plan, folder: Path, statistics: TrueStatistics) -> None:
    """Write the lists below `folder`. The data files must be there."""
    meta = folder / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    (meta / "info.json").write_text(json.dumps(_info(plan, folder), indent=4, ensure_ascii=False))
    if plan.source.version == "v3.0":
        _write_v3(plan, meta, statistics)
    else:
        _write_v2(plan, meta, statistics)


def mended_splits(plan: Plan) -> dict[str, str] | None:
    """Return splits for info.json, or None where those of the source may stay: its episodes are the same."""
    splits, count = plan.source.info.get("splits"), len(plan.kept)
    ends = [str(part).rpartition(":")[2] for part in splits.values()] if isinstance(splits, dict) else []
    fits = bool(ends) and all(end.isdigit() and int(end) <= count for end in ends)
    return None if fits and plan.same_frames else {"train": f"0:{count}"}


def _info(plan: Plan, folder: Path) -> dict[str, Any]:
    info = dict(plan.source.info)
    names = set(pq.read_schema(folder / data_files(plan)[0][0]).names)
    features = {name: info["features"][name] for name in info["features"] if name in plan.source.layout.features}
    for name in ("timestamp", "frame_index"):
        if name in names and name not in features:
            features[name] = {"dtype": format_v3.INDEX_TYPES[name], "shape": [1], "names": None}
    counts = {
        "total_episodes": len(plan.kept),
        "total_frames": sum(kept.length for kept in plan.kept),
        "total_tasks": len(plan.tasks.texts),
    }
    info |= counts | {"features": features}
    splits = mended_splits(plan)
    info |= {} if splits is None else {"splits": splits}
    if plan.source.version == "v3.0":
        return info | {"data_path": format_v3.DATA_PATH, "video_path": format_v3.VIDEO_PATH}
    as_listed = {PREFIX_CHUNK: "{episode_chunk:03d}", PREFIX_NUMBER: "{episode_index:06d}"}
    data_path, video_path = V2_DATA, V2_VIDEO
    for ours, theirs in as_listed.items():
        data_path, video_path = data_path.replace(ours, theirs), video_path.replace(ours, theirs)
    size = chunk_size(plan)
    info |= {"total_videos": len(plan.kept) * len(plan.source.cameras), "chunks_size": size}
    info |= {"total_chunks": -(-len(plan.kept) // size), "data_path": data_path}
    return info | {"video_path": video_path.replace("{camera}", "{video_key}") if plan.source.cameras else None}


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def _write_v2(plan: Plan, meta: Path, statistics: TrueStatistics) -> None:
    before: dict[int, dict[str, Any]] = {}
    listed = plan.source.root / "meta" / "episodes.jsonl"
    if listed.is_file() and listed.stat().st_size:
        before = {row["episode_index"]: row for row in read_json_lines(listed, "episode list", ("episode_index",))}
    rows = [{**before.get(kept.files.index, {}), **_row(plan, kept)} for kept in plan.kept]
    _write_lines(meta / "episodes.jsonl", rows)
    tasks = [{"task_index": number, "task": text} for number, text in plan.tasks.texts.items()]
    _write_lines(meta / "tasks.jsonl", tasks)
    if plan.source.version == "v2.1":
        entries = [
            {"episode_index": kept.number, "stats": stats}
            for kept, stats in zip(plan.kept, statistics.per_episode, strict=True)
        ]
        _write_lines(meta / "episodes_stats.jsonl", entries)
    if plan.source.version == "v2.0" or (plan.source.root / "meta" / "stats.json").is_file():
        _write_json(meta / "stats.json", statistics.whole)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False, allow_nan=False))


def _row(plan: Plan, kept: Kept) -> dict[str, Any]:
    return {"episode_index": kept.number, "tasks": tasks_of(plan, kept), "length": kept.length}


def _write_v3(plan: Plan, meta: Path, statistics: TrueStatistics) -> None:
    _write_json(meta / "stats.json", statistics.whole)
    tasks = {text: number for number, text in plan.tasks.texts.items()}
    pq.write_table(format_v3.task_table(tasks), meta / "tasks.parquet")
    numbers = {kept.number: file for file, (_, episodes) in enumerate(data_files(plan)) for kept in episodes}
    before, videos = _rows_before(plan), video_files(plan)
    rows = []
    for kept, stats in zip(plan.kept, statistics.per_episode, strict=True):
        row = {**before.get(kept.files.index, {}), **_row(plan, kept)}
        row |= format_v3.place("data", numbers[kept.number])
        row |= {"dataset_from_index": kept.start, "dataset_to_index": kept.start + kept.length}
        for camera, (file, begin) in clip_places(plan, kept, videos).items():
            row |= format_v3.place(f"videos/{camera}", file)
            row[f"videos/{camera}/from_timestamp"] = begin
            row[f"videos/{camera}/to_timestamp"] = begin + kept.length / plan.source.layout.fps
        row |= {f"stats/{name}/{key}": value for name, values in stats.items() for key, value in values.items()}
        rows.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
    path = meta / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _rows_before(plan: Plan) -> dict[int, dict[str, Any]]:
    """Return what else the source's list says of each episode: columns that are not the format's own."""
    own = ("stats/", "videos/", "data/", "meta/", "dataset_")
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted((plan.source.root / "meta" / "episodes").glob("chunk-*/file-*.parquet")):
        names = [name for name in pq.read_schema(path).names if not name.startswith(own)]
        for row in read_parquet(path, "episode list", names).to_pylist():
            rows.setdefault(int(row["episode_index"]), row)
    return rows
