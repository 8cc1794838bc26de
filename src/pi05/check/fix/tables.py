"""Write the data files of the copy: the source's columns as they are, and index columns that are true.

v2.x has a file per episode; in v3.0 the files stay those of the source, without what is dropped. Types and the
metadata of the schema stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pi05.check.fix.cells import holds_numbers, like, to_numpy
from pi05.check.fix.plan import Kept, Plan
from pi05.data.lerobot import format_v3
from pi05.data.lerobot.files import read_parquet

V2_DATA = "data/chunk-{chunk:03d}/episode_{number:06d}.parquet"


def data_files(plan: Plan) -> list[tuple[str, list[Kept]]]:
    """Return the data files of the copy, below its root, with their episodes in order."""
    if plan.source.version != "v3.0":
        size = chunk_size(plan)
        return [(V2_DATA.format(chunk=kept.number // size, number=kept.number), [kept]) for kept in plan.kept]
    by_table: dict[Path, list[Kept]] = {}
    for kept in plan.kept:
        by_table.setdefault(kept.place.table, []).append(kept)
    return [(format_v3.data_path(place), episodes) for place, episodes in enumerate(by_table.values())]


def chunk_size(plan: Plan) -> int:
    """Return how many episodes of a v2.x set share a folder."""
    size = plan.source.info.get("chunks_size", 1000)
    return size if isinstance(size, int) and size > 0 else 1000


def write_tables(plan: Plan, folder: Path, progress: Callable[[int], None] | None = None) -> None:
    """Write all data files below `folder`. `progress` gets how many episodes are written."""
    for name, episodes in data_files(plan):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetFile(episodes[0].place.table) as file:
            table = file.read(columns=_columns(plan, list(file.schema_arrow.names)), use_threads=False)
        writer = None
        try:
            for kept in episodes:
                rows = _with_index(plan, kept, table.slice(kept.place.first + kept.cut[0], kept.length))
                writer = writer or pq.ParquetWriter(path, rows.schema, compression="snappy", use_dictionary=True)
                writer.write_table(rows.cast(writer.schema))
                if progress is not None:
                    progress(kept.number + 1)
        finally:
            if writer is not None:
                writer.close()


def _columns(plan: Plan, there: list[str]) -> list[str]:
    """Return the columns of a file that stay: all but the cameras that are left out."""
    gone = set(plan.source.info["features"]) - set(plan.source.layout.features)
    return [name for name in there if name not in gone]


def _with_index(plan: Plan, kept: Kept, rows: pa.Table) -> pa.Table:
    """Return the rows of one episode with true index columns; frame_index and timestamp are added where missing."""
    for name, values in _index(plan, kept, rows).items():
        if name in rows.column_names:
            at = rows.column_names.index(name)
            field = rows.schema.field(at)
            rows = rows.set_column(at, field, like(values, field.type))
        elif name in ("frame_index", "timestamp"):
            rows = rows.append_column(name, pa.array(values.astype(format_v3.INDEX_TYPES[name])))
    return rows


def _index(plan: Plan, kept: Kept, rows: pa.Table) -> dict[str, np.ndarray]:
    frames = np.arange(kept.length)
    index = {
        "frame_index": frames,
        "episode_index": np.full(kept.length, kept.number),
        "index": np.arange(kept.start, kept.start + kept.length),
    }
    if kept.verdict.clock is not None or kept.cut[0]:
        index["timestamp"] = frames / plan.source.layout.fps
    if kept.tasks:
        numbers = to_numpy(rows["task_index"]).reshape(-1).tolist()
        index["task_index"] = np.array([plan.tasks.number[int(number)] for number in numbers])
    return index


def tasks_of(plan: Plan, kept: Kept) -> list[str]:
    """Return the texts that an episode of the copy shows, those of most frames first."""
    if not kept.tasks:
        return [text for text in kept.files.tasks if text in plan.tasks.texts.values()]
    return list(dict.fromkeys(plan.tasks.texts[plan.tasks.number[number]] for number, _ in kept.tasks.most_common()))


def numeric_columns(plan: Plan, folder: Path) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield each column of numbers of the written files, as one array [frames, numbers] per episode."""
    files = [(folder / name, episodes) for name, episodes in data_files(plan)]
    for name in (field.name for field in pq.read_schema(files[0][0]) if holds_numbers(field.type)):
        parts: list[np.ndarray] = []
        try:
            for path, episodes in files:
                column, first = read_parquet(path, "data file", [name])[name], 0
                for kept in episodes:
                    parts.append(to_numpy(column.slice(first, kept.length)))
                    first += kept.length
        except (ValueError, KeyError):  # empty cells, lists of different lengths: there are no statistics of them
            continue
        yield name, parts
