"""Numbers in parquet files that are broken: each error names file, episode, frame and remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from broken import data_file, edit_info, edit_table, refusal, replace, set_cell
from fakes import CAMERAS, FakeDataset, read_frame_number

from pi05.data.lerobot.index_columns import clock_fault
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError


class TestBrokenNumbers:
    def test_a_cut_off_parquet_file(self, fake: FakeDataset) -> None:
        content = data_file(fake, 1).read_bytes()
        data_file(fake, 1).write_bytes(content[: len(content) // 2])
        refusal(fake.root, str(data_file(fake, 1)), "data file of episode 1", "cannot be read")

    def test_a_parquet_file_with_a_damaged_page(self, fake: FakeDataset) -> None:
        content = bytearray(data_file(fake, 1).read_bytes())
        content[4:200] = bytes(196)
        data_file(fake, 1).write_bytes(content)
        with pytest.raises(DataError, match=r"(?s)episode 1.*episode_000001\.parquet"):
            Dataset(fake.root).states()

    @pytest.mark.parametrize("rows", [8, 5])
    def test_fewer_rows_than_the_list_says(self, fake: FakeDataset, rows: int) -> None:
        edit_table(data_file(fake, 1), lambda t: t.slice(0, rows))
        refusal(fake.root, str(data_file(fake, 1)), "episode 1", "9 rows", f"{rows} rows")

    def test_more_rows_than_the_list_says(self, fake: FakeDataset) -> None:
        edit_table(data_file(fake, 1), lambda t: pa.concat_tables([t, t]))
        refusal(fake.root, str(data_file(fake, 1)), "episode 1", "18 rows")

    def test_fewer_rows_than_the_list_says_v3(self, fake_v3: FakeDataset) -> None:
        edit_table(data_file(fake_v3, 0), lambda t: t.slice(0, 15))
        refusal(fake_v3.root, str(data_file(fake_v3, 0)), "about episode 1", "21 rows", "15 rows")

    def test_rows_of_another_episode_v3(self, fake_v3: FakeDataset) -> None:
        # A frame of episode 0 is gone and one of episode 1 doubled: the count of rows is right.
        edit_table(data_file(fake_v3, 0), lambda t: pa.concat_tables([t.slice(0, 11), t.slice(12), t.slice(20)]))
        refusal(fake_v3.root, str(data_file(fake_v3, 0)), "episode 0, frame 11", "episode_index 0", "episode_index 1")

    @pytest.mark.parametrize("name", ["frame_index", "index"])
    def test_numbers_out_of_order(self, fake: FakeDataset, name: str) -> None:
        wrong = np.arange(9) * 2
        edit_table(data_file(fake, 1), lambda t: replace(t, name, pa.array(wrong)))
        refusal(fake.root, str(data_file(fake, 1)), "episode 1, frame ", f"column {name}", "--allow='[index]'")
        assert Dataset(fake.root, allow=["index"]).num_frames == 28

    @pytest.mark.parametrize("column", ["action", "observation.state", "frame_index"])
    def test_a_column_that_is_not_in_the_file(self, fake: FakeDataset, column: str) -> None:
        edit_table(data_file(fake, 2), lambda t: t.drop_columns([column]))
        refusal(fake.root, str(data_file(fake, 2)), "episode 2", column)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("column", ["action", "observation.state"])
    def test_a_value_that_is_not_finite(self, fake_v3: FakeDataset, column: str, value: float) -> None:
        set_cell(data_file(fake_v3, 0), column, 15, lambda row: [*row[:2], value, *row[3:]])
        data = Dataset(fake_v3.root)
        place = r"episode 1, frame 3: .*file-000\.parquet.*dimension 2"
        for read in (data.states if column != "action" else data.actions, lambda: data.frame(0)):
            with pytest.raises(DataError, match="(?s)" + column + ".*" + place):
                read()

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda row: row[:2], r"episode 1, frame 4: .*episode_000001\.parquet.*2 values where others"),
            (lambda row: None, "action is incomplete at episode 1, frame 4: .*an empty cell"),
        ],
        ids=["too short", "empty"],
    )
    def test_a_cell_without_all_its_numbers(self, fake: FakeDataset, change: Any, told: str) -> None:
        set_cell(data_file(fake, 1), "action", 4, change)
        with pytest.raises(DataError, match=f"(?s){told}"):
            Dataset(fake.root).actions()

    def test_a_vector_of_another_size_than_info_says(self, fake: FakeDataset) -> None:
        edit_info(fake.root, lambda info: info["features"]["action"].update(shape=[5]))
        with pytest.raises(DataError, match=r"(?s)episode 0.*episode_000000\.parquet.*wanted: 5 numbers.*found:  3"):
            Dataset(fake.root).actions()

    def test_a_task_that_is_not_in_the_list(self, fake: FakeDataset) -> None:
        edit_table(data_file(fake, 1), lambda t: replace(t, "task_index", pa.array([1] * 8 + [7])))
        refusal(fake.root, str(data_file(fake, 1)), "episode 1, frame 8", "7")

    def test_an_unknown_task(self, fake: FakeDataset) -> None:
        for episode in range(3):
            edit_table(data_file(fake, episode), lambda t: t.drop_columns(["task_index"]))
        edit_info(fake.root, lambda info: info["features"].pop("task_index"))
        assert Dataset(fake.root).task(15) == fake.task_of_frame[15]  # the episode list tells, with one task each
        path = fake.root / "meta/episodes.jsonl"
        path.write_text(path.read_text().replace(f'["{fake.task_of_frame[15]}"]', "[]"))
        refusal(fake.root, str(data_file(fake, 1)), "episode 1", "task_index")

    def test_jitter_in_the_clock(self, fake: FakeDataset) -> None:
        times = fake.timestamps[12:21].copy()
        times[5] += 0.003
        edit_table(data_file(fake, 1), lambda t: replace(t, "timestamp", pa.array(times)))
        refusal(fake.root, str(data_file(fake, 1)), "episode 1, frame 5", "0.1030 s", "--allow='[timestamps]'")
        data = Dataset(fake.root, allow=["timestamps"])
        assert read_frame_number(data.image(CAMERAS[0], 17)) == (17, 0)

    def test_another_frame_rate(self, fake: FakeDataset) -> None:
        edit_info(fake.root, lambda info: info.update(fps=20))
        refusal(fake.root, str(data_file(fake, 0)), "episode 0, frame 1", "20 frames/s")

    def test_a_time_that_is_no_number(self, fake: FakeDataset) -> None:
        times = fake.timestamps[12:21].copy()
        times[5] = np.nan
        edit_table(data_file(fake, 1), lambda t: replace(t, "timestamp", pa.array(times)))
        refusal(fake.root, str(data_file(fake, 1)), "episode 1, frame 5", "nan")


@pytest.mark.parametrize("start", [0.0, 0.05, 4000.0])
def test_an_even_clock_may_start_anywhere(start: float) -> None:
    times = (start + np.arange(2000) / 30).astype(np.float32)
    assert clock_fault(times.astype(np.float64), 30) is None


def test_a_clock_that_drifts() -> None:
    times = np.arange(300) * (1 / 30 + 7e-5)  # each step passes, the sum does not
    assert clock_fault(times[:200], 30) is None
    fault = clock_fault(times, 30)
    assert fault is not None
    assert fault[0] == 299
    assert "0.0209 s off after 300 frames" in fault[2]


def test_numbers_of_episodes_that_nobody_uses_may_be_broken(fake_v3: FakeDataset) -> None:
    set_cell(data_file(fake_v3, 0), "action", 14, lambda row: [*row[:2], float("nan"), *row[3:]])
    with pytest.raises(DataError, match="episode 1"):
        Dataset(fake_v3.root).actions()
    actions = Dataset(fake_v3.root, unused=[1]).actions()
    assert np.isnan(actions[14]).any()
    assert np.isfinite(np.delete(actions, 14, axis=0)).all()
