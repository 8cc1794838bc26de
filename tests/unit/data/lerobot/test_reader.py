"""The reader: every version and storage, every way to ask for a frame, and every kind of broken data set."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken import data_file, edit_info, edit_table, replace, video_file
from fakes import CAMERAS, FakeDataset, numbered_image, read_frame_number, write_dataset, write_video

from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError

ALL_KINDS = [(version, storage) for version in ("v2.0", "v2.1", "v3.0") for storage in ("video", "image")]


@pytest.mark.parametrize(("version", "storage"), ALL_KINDS)
class TestReading:
    def test_numbers(self, tmp_path: Path, version: str, storage: str) -> None:
        fake = write_dataset(tmp_path / "set", version, storage=storage)
        data = Dataset(fake.root)
        assert (data.version, data.num_episodes, data.num_frames, len(data)) == (version, 3, 28, 28)
        assert [(e.index, e.start, e.length) for e in data.episodes] == [(0, 0, 12), (1, 12, 9), (2, 21, 7)]
        assert [e.tasks for e in data.episodes] == [(fake.task_of_frame[s],) for s in fake.starts]
        np.testing.assert_array_equal(data.states(), fake.states)
        np.testing.assert_array_equal(data.actions(), fake.actions)
        assert [data.task(i) for i in range(28)] == fake.task_of_frame
        assert [data.timestamp(i) for i in range(28)] == fake.timestamps.tolist()

    def test_pictures_in_any_order(self, tmp_path: Path, version: str, storage: str) -> None:
        data = Dataset(write_dataset(tmp_path / "set", version, storage=storage).root)
        for i in np.random.default_rng(0).permutation(28):
            frame = data.frame(int(i))
            assert [read_frame_number(frame[camera]) for camera in CAMERAS] == [(i, 0), (i, 1)]
            np.testing.assert_array_equal(frame["observation.state"], data.states()[i])
            assert (frame["task"], frame["index"]) == (data.task(int(i)), i)

    def test_pictures_one_after_the_other(self, tmp_path: Path, version: str, storage: str) -> None:
        data = Dataset(write_dataset(tmp_path / "set", version, storage=storage).root)
        for number, camera in enumerate(CAMERAS):
            seen = [read_frame_number(image) for e in range(3) for image in data.iter_frames(camera, e)]
            assert seen == [(i, number) for i in range(28)]
        np.testing.assert_array_equal(list(data.iter_frames(CAMERAS[0], 1))[4], data.image(CAMERAS[0], 16))


def test_action_chunks_repeat_the_last_action_of_the_episode(fake: FakeDataset) -> None:
    data = Dataset(fake.root)
    actions, is_pad = data.action_chunk(18, 5)
    np.testing.assert_array_equal(actions, fake.actions[[18, 19, 20, 20, 20]])
    assert is_pad.tolist() == [False, False, False, True, True]
    assert not data.action_chunk(12, 9)[1].any()
    with pytest.raises(IndexError, match="frame 28 of a data set of 28"):
        data.action_chunk(28, 5)


def test_columns_of_one_episode(fake_v3: FakeDataset) -> None:
    data = Dataset(fake_v3.root)
    columns = data.columns(["action", "frame_index"], 1)
    np.testing.assert_array_equal(columns["action"], fake_v3.actions[12:21])
    np.testing.assert_array_equal(columns["frame_index"], np.arange(9))
    with pytest.raises(KeyError, match="gaze is not a column"):
        data.columns(["gaze"], 1)


def test_other_names_for_state_action_and_cameras(tmp_path: Path) -> None:
    names: dict[str, Any] = {"state_key": "state", "action_key": "actions", "cameras": ("image", "wrist_image")}
    fake = write_dataset(tmp_path / "set", "v2.0", storage="image", **names)
    data = Dataset(fake.root)
    assert (data.state_key, data.action_key, data.camera_keys) == ("state", "actions", ["image", "wrist_image"])
    frame = data.frame(20)
    np.testing.assert_array_equal(frame["observation.state"], fake.states[20])
    np.testing.assert_array_equal(frame["action"], fake.actions[20])
    assert data.action_names == ["actions_0", "actions_1", "actions_2"]


def test_names_that_do_not_fit_the_dimensions_are_numbered(fake: FakeDataset) -> None:
    edit_info(fake.root, lambda info: info["features"]["action"].update(names=["actions"]))
    edit_info(fake.root, lambda info: info["features"]["observation.state"].update(names={"motors": list("abcd")}))
    data = Dataset(fake.root)
    assert data.action_names == ["action_0", "action_1", "action_2"]
    assert data.state_names == ["a", "b", "c", "d"]


def test_a_dropped_camera_is_gone(fake: FakeDataset) -> None:
    shutil.rmtree(fake.root / "videos/chunk-000" / CAMERAS[1])
    data = Dataset(fake.root, drop_cameras=[CAMERAS[1]])
    assert data.camera_keys == [CAMERAS[0]]
    assert CAMERAS[1] not in data.frame(3)


def test_more_files_than_stay_open(tmp_path: Path) -> None:
    data = Dataset(write_dataset(tmp_path / "set", "v2.1", [3] * 12).root)
    for i in [*range(0, 36, 3), *range(1, 36, 3)]:
        assert read_frame_number(data.image(CAMERAS[1], i)) == (i, 1)
    assert len(data._clips._videos._readers) == data._clips._videos._max_open


def test_times_that_start_late_are_matched_by_number(fake: FakeDataset) -> None:
    for episode in range(3):
        edit_table(
            data_file(fake, episode), lambda t: replace(t, "timestamp", pa.array(t["timestamp"].to_numpy() + 0.1))
        )
    data = Dataset(fake.root)
    assert read_frame_number(data.image(CAMERAS[0], 27)) == (27, 0)
    assert data.notes == [
        "3 of 3 episodes do not start at time 0 (the first: 0); frames are matched to video by number"
    ]


def test_fingerprint_follows_the_files(fake: FakeDataset) -> None:
    before = Dataset(fake.root).fingerprint()
    assert Dataset(fake.root).fingerprint() == before
    edit_table(data_file(fake, 1), lambda t: replace(t, "action", pa.array(t["action"].to_pylist()[::-1])))
    assert Dataset(fake.root).fingerprint() != before


def test_several_threads_may_read(fake_v3: FakeDataset) -> None:
    data = Dataset(fake_v3.root)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: read_number(data, i), [*range(28), *range(27, -1, -1)] * 3))
    assert found == [*range(28), *range(27, -1, -1)] * 3


def read_number(data: Dataset, i: int) -> int:
    return read_frame_number(data.image(CAMERAS[0], i))[0]


def add_column(fake: FakeDataset, name: str, dtype: str, cells: list[Any], kind: pa.DataType | None = None) -> None:
    """Add a column over all frames of a v3.0 set that nobody asks for."""
    edit_info(fake.root, lambda info: info["features"].update({name: {"dtype": dtype, "shape": [1], "names": None}}))
    for file, rows in ((0, slice(0, 21)), (1, slice(21, 28))):
        edit_table(data_file(fake, file), lambda t, rows=rows: t.append_column(name, pa.array(cells[rows], kind)))


class TestColumnsThatNobodyAskedFor:
    def test_they_may_have_gaps_and_any_shape(self, fake_v3: FakeDataset) -> None:
        words = [None if i % 3 else f"note {i}" for i in range(28)]
        language: list[Any] = [[{"role": "user", "content": "go"}] * (i % 4) for i in range(28)]
        add_column(fake_v3, "note", "string", words, pa.string())
        add_column(fake_v3, "language_events", "language", language)
        add_column(fake_v3, "ragged", "float32", [[0.5] * (i % 5) for i in range(28)], pa.list_(pa.float32()))
        add_column(fake_v3, "force", "float32", [[float(i), 0.0] for i in range(28)], pa.list_(pa.float32()))
        data = Dataset(fake_v3.root)
        np.testing.assert_array_equal(data.columns(["action"], 1)["action"], fake_v3.actions[12:21])
        for i in (0, 22, 14, 3):
            frame = data.frame(i)
            assert (frame["note"], frame["language_events"]) == (words[i], language[i])
            assert frame["ragged"] == [0.5] * (i % 5)
            assert frame["force"].dtype == np.float32
            assert frame["force"].tolist() == [i, 0]
        with pytest.raises(DataError, match=r"(?s)note is incomplete at episode 0, frame 1: .*file-000\.parquet"):
            data.columns(["note"], 0)

    def test_they_may_be_missing_from_the_files(self, fake_v3: FakeDataset) -> None:
        edit_info(fake_v3.root, lambda info: info["features"].update(gone={"dtype": "float32", "shape": [3]}))
        data = Dataset(fake_v3.root)
        assert "gone" not in data.frame(4)
        np.testing.assert_array_equal(data.states(), fake_v3.states)

    def test_they_are_not_read(self, fake_v3: FakeDataset) -> None:
        add_column(fake_v3, "depth", "uint16", [np.zeros(9, np.uint16)] * 28, pa.list_(pa.uint16()))
        path = data_file(fake_v3, 0)
        group = pq.read_metadata(path).row_group(0)
        column = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.startswith("depth"))
        start = column.dictionary_page_offset or column.data_page_offset
        content = bytearray(path.read_bytes())
        content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
        path.write_bytes(content)
        data = Dataset(fake_v3.root)
        np.testing.assert_array_equal(data.columns(["action"], 0)["action"], fake_v3.actions[:12])
        np.testing.assert_array_equal(data.states(), fake_v3.states)
        assert read_frame_number(data.image(CAMERAS[0], 5)) == (5, 0)
        with pytest.raises(DataError, match=r"(?s)episode 0 cannot be read: .*file-000\.parquet"):
            data.frame(5)


@pytest.mark.parametrize("by_header", [True, False])
@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_video_longer_than_its_rows_is_told_once(tmp_path: Path, version: str, by_header: bool) -> None:
    fake = write_dataset(tmp_path / "set", version)
    pictures = [numbered_image(i, 0) for i in range(21, 30)]
    path = video_file(fake, 2 if version == "v2.1" else 1)
    write_video(path, pictures, 10)
    data = Dataset(fake.root)
    assert data.notes == []
    if by_header:
        data.look_at_headers(CAMERAS)
        assert len(data.notes) == 1
    assert [read_frame_number(image)[0] for image in data.iter_frames(CAMERAS[0], 2)] == list(range(21, 28))
    assert read_frame_number(data.image(CAMERAS[0], 5)) == (5, 0)
    (told,) = data.notes
    assert told.startswith(
        f"the video of camera {CAMERAS[0]} has 2 frames more than episode 2 has rows; they are taken"
    )
    assert f"after its end: {path}. Were they filmed before it began, every picture would be 2 frames late" in told


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({"train": "0:3"}, False),
        ({}, False),
        (None, False),
        ({"train": "0:2", "val": "2:3"}, True),
        ({"train": "0:2"}, True),
    ],
)
def test_splits_that_are_not_used_are_told(fake: FakeDataset, splits: Any, told: bool) -> None:
    edit_info(fake.root, lambda info: info.update(splits=splits))
    notes = Dataset(fake.root).notes
    assert bool(notes) == told
    assert all("--dataset.episodes" in note for note in notes)
