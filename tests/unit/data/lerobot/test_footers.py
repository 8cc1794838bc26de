"""Claims of `meta/` against the footers: what a few words say is compared before anything of that size is made."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken import data_file, edit_info, edit_table, refusal, replace
from fakes import CAMERAS, FakeDataset, write_dataset

from pi05.data.lerobot.footers import read_footer
from pi05.data.lerobot.reader import Dataset

LITTLE = 30 * 2**20
"""Bytes: far above what opening a small set takes, far below what the claims would."""


@pytest.fixture
def fake(tmp_path: Path) -> FakeDataset:
    """A v2.1 set of small pictures, which is made faster than videos."""
    return write_dataset(tmp_path / "set", "v2.1", storage="image", cameras=CAMERAS[:1], height=16, width=16)


@pytest.fixture
def fake_v3(tmp_path: Path) -> FakeDataset:
    """The same in v3.0: episodes 0 and 1 in one file, 2 in another."""
    return write_dataset(tmp_path / "set", "v3.0", storage="image", cameras=CAMERAS[:1], height=16, width=16)


@contextmanager
def in_little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


def claim_length(fake: FakeDataset, episode: int, length: int) -> None:
    """Let the episode list and the totals say that an episode has so many frames."""
    lengths = [*fake.lengths]
    lengths[episode] = length
    starts = [sum(lengths[:e]) for e in range(len(lengths))]
    if fake.version == "v3.0":
        path = fake.root / "meta/episodes/chunk-000/file-000.parquet"
        edit_table(
            path, lambda t: replace(replace(t, "length", pa.array(lengths)), "dataset_from_index", pa.array(starts))
        )
    else:
        path = fake.root / "meta/episodes.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows[episode]["length"] = length
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    edit_info(fake.root, lambda info: info.update(total_frames=sum(lengths)))


@pytest.mark.parametrize("kind", ["fake", "fake_v3"])
@pytest.mark.parametrize("length", [10**9, 2**60])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_length_that_no_file_has(kind: str, length: int, indexed: bool, request: pytest.FixtureRequest) -> None:
    made: FakeDataset = request.getfixturevalue(kind)
    claim_length(made, 2, length)
    if not indexed:
        for path in made.root.glob("data/*/*.parquet"):
            edit_table(path, lambda table: table.drop_columns(["episode_index"]))
        edit_info(made.root, lambda info: info["features"].pop("episode_index"))
    with in_little_memory():
        refusal(made.root, "episode 2", f"{length} rows", "7 rows")


def test_lengths_that_nobody_can_count(fake: FakeDataset) -> None:
    """Unused episodes may lack their files; a claim about them still must not fill the memory."""
    data_file(fake, 2).unlink()
    claim_length(fake, 2, 10**9)
    with in_little_memory():
        refusal(fake.root, "episodes.jsonl", "134,217,728", "1,000,000,000 in episode 2", episodes=[0, 1])
    claim_length(fake, 2, 7)
    assert Dataset(fake.root, episodes=[0, 1]).num_frames == 28


@pytest.mark.parametrize("kind", ["fake", "fake_v3"])
@pytest.mark.parametrize("name", ["observation.state", "action"])
@pytest.mark.parametrize("shape", [[10**9], [40_000], [5]])
def test_a_shape_that_no_file_has(kind: str, name: str, shape: list[int], request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(kind).root
    edit_info(root, lambda info: info["features"][name].update(shape=shape, names=None))
    with in_little_memory():
        refusal(root, name, "meta/info.json")


@pytest.mark.parametrize("shape", [[0], [-3], ["3"], [3.0], [True], "3", {"x": 3}, [[3]], [2**62, 2**62]])
def test_a_shape_that_is_none(fake: FakeDataset, shape: Any) -> None:
    edit_info(fake.root, lambda info: info["features"]["action"].update(shape=shape))
    refusal(fake.root, "the shape of action cannot be", "meta/info.json")


@pytest.mark.parametrize("name", ["timestamp", "frame_index", "episode_index", "index", "task_index"])
@pytest.mark.parametrize("column", [[[1, 2]] * 9, ["x"] * 9, [[]] * 9, [{"a": 1}] * 9])
def test_index_columns_that_are_no_numbers(fake: FakeDataset, name: str, column: list[Any]) -> None:
    edit_table(data_file(fake, 1), lambda table: replace(table, name, pa.array(column)))
    refusal(fake.root, f"{name} is no column of numbers", "episode 1", "episode_000001.parquet")


def test_numbers_in_lists_of_their_own_are_numbers(fake: FakeDataset) -> None:
    for episode in range(3):
        edit_table(
            data_file(fake, episode),
            lambda table: replace(table, "index", pa.array([[value] for value in table["index"].to_pylist()])),
        )
    assert Dataset(fake.root).num_frames == 28


def test_two_columns_of_one_name(fake: FakeDataset) -> None:
    edit_table(data_file(fake, 1), lambda table: table.append_column("action", table["action"]))
    refusal(fake.root, "two columns of one name", "episode 1", "'action'")


def test_values_are_counted_per_column(tmp_path: Path) -> None:
    """Parquet stores parts of a column apart; the counts belong to the column, whatever stands before it."""
    columns = {
        "pair": pa.array([{"a": 1, "b": [1, 2, 3]}] * 4),
        "vector": pa.array([[0.5] * 7] * 4, pa.list_(pa.float32(), 7)),
        "nested": pa.array([[[1, 2], [3, 4]]] * 4),
        "text": pa.array(["x"] * 4).dictionary_encode(),
        "map": pa.array([[("k", 1)]] * 4, pa.map_(pa.string(), pa.int64())),
        "number": pa.array(range(4)),
        "gap": pa.array([[1.0, 2.0], None, [], [3.0]]),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=3)
    footer = read_footer(tmp_path / "x.parquet", None)
    assert footer.row_groups == [0, 3, 4]
    assert {name: footer.values[name] for name in ("vector", "nested", "text", "number", "gap")} == {
        "vector": 28, "nested": 16, "text": 4, "number": 4, "gap": 5,
    }  # fmt: skip
    assert footer.holds_numbers("number")
    assert not any(footer.holds_numbers(name) for name in columns if name != "number")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("meta/episodes/chunk-000/file-000.parquet", "episode list"),
        ("meta/tasks.parquet", "task list"),
        ("data/chunk-000/file-000.parquet", "data file"),
    ],
)
def test_a_small_file_of_very_many_rows(fake_v3: FakeDataset, name: str, what: str) -> None:
    """Equal values are stored once, and would fill the memory when they are read."""
    path, rows = fake_v3.root / name, 2**20
    table = pq.read_table(path)
    columns = {}
    for column in table.column_names:
        first = table[column].combine_chunks()[:1]
        columns[column] = pa.nulls(rows, first.type) if pa.types.is_nested(first.type) else pa.repeat(first[0], rows)
    pq.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < rows
    with in_little_memory():
        refusal(fake_v3.root, f"the {what}", "1,048,576 rows", str(path))
