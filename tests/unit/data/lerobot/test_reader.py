"""The reader: every version and storage, every way to ask for a frame, and every kind of broken data set."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from broken import data_file, edit_info, edit_table, replace
from fakes import CAMERAS, FakeDataset, read_frame_number, write_dataset

from pi05.data.lerobot.reader import Dataset

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


class TestProcesses:
    @pytest.mark.process
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    def test_after_a_fork(self, fake_v3: FakeDataset) -> None:
        data = Dataset(fake_v3.root)
        cache = data._clips._videos
        data.image(CAMERAS[0], 5)
        assert len(cache._readers) == 1
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()

        def child() -> None:
            # A file that parent and child share would share its reading position, too.
            results.put((len(cache._readers), [read_number(data, i) for i in range(28)]))

        with cache._lock:  # as if another thread were decoding at that moment
            process = context.Process(target=child)
            process.start()
        process.join(60)
        assert process.exitcode == 0
        assert results.get() == (0, list(range(28)))
        assert read_number(data, 6) == 6

    def test_in_threads(self, fake_v3: FakeDataset) -> None:
        data = Dataset(fake_v3.root)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: read_number(data, i), [*range(28), *range(27, -1, -1)] * 3))
        assert found == [*range(28), *range(27, -1, -1)] * 3

    def test_after_pickling(self, fake_v3: FakeDataset) -> None:
        data = Dataset(fake_v3.root)
        data.image(CAMERAS[0], 5)
        copy = pickle.loads(pickle.dumps(data))
        assert read_frame_number(copy.image(CAMERAS[0], 26)) == (26, 0)


def read_number(data: Dataset, i: int) -> int:
    return read_frame_number(data.image(CAMERAS[0], i))[0]
