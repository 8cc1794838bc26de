"""Values of a data set's metadata exchanged for others, of every type: the set is read, or refused with a remedy.

Nothing else may happen: no traceback, no memory without bounds. Some exchanges are drawn, always the same.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import CAMERAS, FakeDataset, write_dataset

from pi05.data.lerobot.provenance import describe_dataset
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 7, 10**9, 2**62, 0.5, 1e300, "", "x", "2024-02-30", "../..", "{x}", "{chunk_index:>2000000000}",
    [], [10**9], ["x"], [[1]], [None], {}, {"x": 1}, {"x": None},
)  # fmt: skip
CHANGES = 40
"""In each test."""


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value inside."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*way, key)
        yield from places(value[key], (*way, key))


def changed(value: Any, way: tuple[Any, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = new
    return copy


def look(root: Path) -> bool:
    """Read everything that training reads; False where the set is refused."""
    describe_dataset(root)
    try:
        data = Dataset(root)
        data.states()
        data.fingerprint()
        for camera in data.camera_keys:
            data.image(camera, len(data) - 1)
        data.frame(0)
    except DataError:
        return False
    return True


def small(root: Path, version: str) -> FakeDataset:
    return write_dataset(root, version, [3, 2], storage="image", cameras=CAMERAS[:1], height=16, width=16)


def drawn(ways: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return some pairs of a place and a value for it."""
    pairs = [(way, new) for way in ways for new in ODD]
    return random.Random(0).sample(pairs, min(CHANGES, len(pairs)))


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_info(tmp_path: Path, version: str) -> None:
    root = small(tmp_path / "set", version).root
    path = root / "meta/info.json"
    whole = json.loads(path.read_text())
    assert look(root)
    outcomes = set()
    for way, new in drawn(places(whole)):
        path.write_text(json.dumps(changed(whole, way, new)))
        outcomes.add(look(root))
    assert outcomes == {True, False}


@pytest.mark.parametrize("name", ["tasks.jsonl", "episodes.jsonl"])
def test_lists_of_v2(tmp_path: Path, name: str) -> None:
    root = small(tmp_path / "set", "v2.1").root
    path = root / "meta" / name
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    outcomes = set()
    for way, new in drawn(places(rows)):
        path.write_text("".join(json.dumps(row) + "\n" for row in changed(rows, way, new)))
        outcomes.add(look(root))
    assert outcomes == {True, False}


@pytest.mark.parametrize("name", ["tasks.parquet", "episodes/chunk-000/file-000.parquet"])
def test_lists_of_v3(tmp_path: Path, name: str) -> None:
    root = small(tmp_path / "set", "v3.0").root
    path = root / "meta" / name
    table = pq.read_table(path)
    outcomes = set()
    for column, new in drawn(table.column_names):
        try:
            exchanged = pa.array([new] * table.num_rows)
            pq.write_table(table.set_column(table.column_names.index(column), column, exchanged), path)
        except (pa.ArrowException, OverflowError):
            continue  # parquet has no such column
        outcomes.add(look(root))
    assert False in outcomes
