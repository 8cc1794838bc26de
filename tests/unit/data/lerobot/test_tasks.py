"""Task lists of every form: the text that becomes the prompt is the right one, or the set is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken import data_file, edit_table, refusal, replace
from fakes import TASKS, FakeDataset

from pi05.data.lerobot.reader import Dataset
from pi05.data.lerobot.tasks import read_task_lines, read_task_table
from pi05.errors import DataError

NUMBERS = pa.array([0, 1])


def write_lines(fake: FakeDataset, *rows: dict[str, Any]) -> Path:
    path = fake.root / "meta/tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_table(fake: FakeDataset, columns: dict[str, Any], index: str | None = None) -> Path:
    """Write tasks.parquet as pandas does: the index is a column, and the metadata name it."""
    path = fake.root / "meta/tasks.parquet"
    table = pa.table(columns)
    if index is not None:
        table = table.replace_schema_metadata({"pandas": json.dumps({"index_columns": [index], "columns": []})})
    pq.write_table(table, path)
    return path


class TestTables:
    @pytest.mark.parametrize("name", ["__index_level_0__", "task"])
    def test_the_index_of_pandas_is_the_text_whatever_stands_beside_it(self, fake_v3: FakeDataset, name: str) -> None:
        columns = {"task_index": NUMBERS, "category": ["pick", "place"], name: list(TASKS)}
        write_table(fake_v3, columns, index=name)
        assert Dataset(fake_v3.root).task(0) == TASKS[0]

    def test_a_numbered_index_leaves_the_column_task(self, fake_v3: FakeDataset) -> None:
        columns = {"task_index": NUMBERS, "category": ["pick", "place"], "task": list(TASKS), "row": NUMBERS}
        write_table(fake_v3, columns, index="row")
        assert Dataset(fake_v3.root).tasks == list(TASKS)

    @pytest.mark.parametrize(
        "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
    )
    def test_every_kind_of_text(self, fake_v3: FakeDataset, kind: pa.DataType) -> None:
        texts = pa.array(list(TASKS))
        texts = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
        write_table(fake_v3, {"task_index": NUMBERS, "task": texts})
        assert Dataset(fake_v3.root).tasks == list(TASKS)

    def test_numbers_that_pandas_made_floats_of(self, fake_v3: FakeDataset) -> None:
        write_table(fake_v3, {"task_index": [0.0, 1.0], "task": list(TASKS)})
        assert Dataset(fake_v3.root).task(0) == TASKS[0]

    def test_two_texts_and_none_of_them_named(self, fake_v3: FakeDataset) -> None:
        path = write_table(fake_v3, {"task_index": NUMBERS, "kind": ["pick", "place"], "words": list(TASKS)})
        refusal(fake_v3.root, str(path), "does not tell the tasks", "kind (string), words (string)")

    def test_a_task_column_of_numbers(self, fake_v3: FakeDataset) -> None:
        path = write_table(fake_v3, {"task_index": NUMBERS, "task": [5, 6]})
        refusal(fake_v3.root, str(path), "task (int64)")

    def test_a_text_that_is_not_utf8(self, fake_v3: FakeDataset) -> None:
        texts = pa.array(["红色".encode("gbk"), b"b"]).view(pa.string())
        path = write_table(fake_v3, {"task_index": NUMBERS, "task": texts})
        refusal(fake_v3.root, str(path), "not UTF-8", "column task")


class TestRows:
    @pytest.mark.parametrize("text", [None, 5, ["a"], {"a": 1}])
    def test_a_text_that_is_none(self, fake: FakeDataset, text: Any) -> None:
        path = write_lines(fake, {"task_index": 0, "task": text}, {"task_index": 1, "task": "b"})
        refusal(fake.root, str(path), "row 1", "task 0 as text", repr(text))

    @pytest.mark.parametrize("number", [None, "0", 0.5, -1, True])
    def test_a_number_that_is_none(self, fake: FakeDataset, number: Any) -> None:
        path = write_lines(fake, {"task_index": 0, "task": "a"}, {"task_index": number, "task": "b"})
        refusal(fake.root, str(path), "row 2", repr(number))

    def test_an_empty_cell_in_a_table(self, fake_v3: FakeDataset) -> None:
        path = write_table(fake_v3, {"task_index": NUMBERS, "task": [TASKS[0], None]})
        refusal(fake_v3.root, str(path), "row 2", "None")

    def test_two_texts_for_one_number(self, tmp_path: Path) -> None:
        path = tmp_path / "tasks.jsonl"
        path.write_text('{"task_index": 0, "task": "a"}\n{"task_index": 0, "task": "a"}\n')
        assert read_task_lines(path) == {0: "a"}
        path.write_text('{"task_index": 0, "task": "a"}\n{"task_index": 0, "task": "b"}\n')
        with pytest.raises(DataError, match=r"(?s)row 2.*tasks\.jsonl.*'a' and 'b'"):
            read_task_lines(path)
        table = tmp_path / "tasks.parquet"
        pq.write_table(pa.table({"task_index": [3, 3], "task": ["a", "b"]}), table)
        with pytest.raises(DataError, match=r"(?s)row 2.*tasks\.parquet.*one text for task 3"):
            read_task_table(table)

    @pytest.mark.parametrize("text", ["", "  \n", "_"])
    def test_an_empty_text_is_refused_where_a_frame_shows_it(self, fake: FakeDataset, text: str) -> None:
        path = write_lines(fake, {"task_index": 0, "task": TASKS[0]}, {"task_index": 1, "task": text})
        refusal(fake.root, str(path), "task 1, which episode 1 shows", "--dataset.exclude_episodes='[1]'")
        assert Dataset(fake.root, unused=[1]).task(0) == TASKS[0]

    def test_an_empty_text_that_no_frame_shows_does_no_harm(self, fake: FakeDataset) -> None:
        rows = [{"task_index": k, "task": task} for k, task in enumerate((*TASKS, ""))]
        write_lines(fake, *rows)
        assert Dataset(fake.root).task(0) == TASKS[0]


class TestEpisodeListAndFrames:
    @pytest.mark.parametrize("version", ["v2.1", "v3.0"])
    def test_another_task_of_the_list_is_refused(self, request: pytest.FixtureRequest, version: str) -> None:
        fake: FakeDataset = request.getfixturevalue("fake" if version == "v2.1" else "fake_v3")
        file = data_file(fake, 1 if version == "v2.1" else 0)
        edit_table(file, lambda table: replace(table, "task_index", pa.array([0] * len(table))))
        refusal(fake.root, str(file), "different tasks for episode 1", repr(TASKS[1]), repr(TASKS[0]), "--allow")
        assert Dataset(fake.root, allow=["tasks"]).task(12) == TASKS[0]
        assert Dataset(fake.root, unused=[1]).task(0) == TASKS[0]

    def test_a_text_that_was_reworded_in_the_task_list_alone_is_told(self, fake: FakeDataset) -> None:
        write_lines(fake, {"task_index": 0, "task": "lift it"}, {"task_index": 1, "task": TASKS[1]})
        data = Dataset(fake.root)
        assert data.task(0) == "lift it"
        assert [note for note in data.notes if "2 of 3 episodes have other task texts" in note]


@pytest.mark.parametrize(
    "note",
    [
        b"[1]", b"7", b'"text"', b"{", b"\xff", b'{"index_columns": 5}',
        b'{"index_columns": [5, null, {"kind": "range"}]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_note_of_pandas_that_is_none(fake_v3: FakeDataset, note: bytes) -> None:
    path = fake_v3.root / "meta/tasks.parquet"
    table = pa.table({"task_index": NUMBERS, "task": list(TASKS)})
    pq.write_table(table.replace_schema_metadata({"pandas": note}), path)
    assert read_task_table(path) == dict(enumerate(TASKS))
