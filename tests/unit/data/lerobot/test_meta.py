"""Metadata and lists of files that are broken: each error names the file, the episode where there is one, a remedy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from broken import data_file, edit_info, edit_table, refusal, replace, video_file
from fakes import CAMERAS, FakeDataset, read_frame_number, write_dataset

from pi05.data.lerobot.reader import Dataset
from pi05.settings.fields import shown


class TestBrokenMetadata:
    def test_no_folder(self, tmp_path: Path) -> None:
        refusal(tmp_path / "nowhere", "nowhere", "no such folder", "meta/info.json")

    def test_no_info(self, fake: FakeDataset) -> None:
        (fake.root / "meta/info.json").unlink()
        refusal(fake.root, "meta/info.json", "no such file")

    @pytest.mark.parametrize("content", ["{", "[1]", '{"codebase_version": "v2.1", "fps": 10}'])
    def test_unreadable_info(self, fake: FakeDataset, content: str) -> None:
        (fake.root / "meta/info.json").write_text(content)
        refusal(fake.root, "meta/info.json")

    @pytest.mark.parametrize("version", ["v1.6", "v4.0", None])
    def test_unknown_version(self, fake: FakeDataset, version: str | None) -> None:
        edit_info(fake.root, lambda info: info.update(codebase_version=version))
        refusal(fake.root, "meta/info.json", repr(version), "v2.0, v2.1, v3.0")

    @pytest.mark.parametrize("fps", [0, -5, None, "10", float("nan"), True])
    def test_impossible_fps(self, fake: FakeDataset, fps: object) -> None:
        edit_info(fake.root, lambda info: info.update(fps=fps))
        refusal(fake.root, "meta/info.json", "fps")

    def test_no_action_column(self, fake: FakeDataset) -> None:
        edit_info(fake.root, lambda info: info["features"].pop("action"))
        refusal(fake.root, "no action column", "meta/info.json", "action or actions", "every episode")

    def test_no_state_column(self, fake: FakeDataset) -> None:
        edit_info(fake.root, lambda info: info["features"].pop("observation.state"))
        refusal(fake.root, "no state column", "meta/info.json", "observation.state or state")

    def test_no_task_list(self, fake: FakeDataset) -> None:
        (fake.root / "meta/tasks.jsonl").unlink()
        refusal(fake.root, "task list", "meta/tasks.jsonl", "no such file")

    def test_no_task_list_v3(self, fake_v3: FakeDataset) -> None:
        (fake_v3.root / "meta/tasks.parquet").unlink()
        refusal(fake_v3.root, "task list", "meta/tasks.parquet", "no such file")

    def test_no_episode_list(self, fake: FakeDataset) -> None:
        (fake.root / "meta/episodes.jsonl").write_text("")
        refusal(fake.root, "episode list", "meta/episodes.jsonl", "0 bytes")

    def test_no_episode_list_v3(self, fake_v3: FakeDataset) -> None:
        shutil.rmtree(fake_v3.root / "meta/episodes")
        refusal(fake_v3.root, "list of episodes", "meta/episodes", "no such file")

    def test_broken_line(self, fake: FakeDataset) -> None:
        with (fake.root / "meta/episodes.jsonl").open("a") as file:
            file.write('{"episode_index": 3, "len')
        refusal(fake.root, "meta/episodes.jsonl", "line 4")

    def test_line_without_length(self, fake: FakeDataset) -> None:
        (fake.root / "meta/episodes.jsonl").write_text('{"episode_index": 0}\n')
        refusal(fake.root, "meta/episodes.jsonl", "line 1 has no length")

    def test_episode_list_without_a_column(self, fake_v3: FakeDataset) -> None:
        path = fake_v3.root / "meta/episodes/chunk-000/file-000.parquet"
        edit_table(path, lambda t: t.drop_columns(["dataset_from_index"]))
        refusal(fake_v3.root, str(path), "dataset_from_index")

    def test_a_gap_in_the_episode_list(self, fake: FakeDataset) -> None:
        path = fake.root / "meta/episodes.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text(lines[0] + lines[2])
        refusal(fake.root, "at episode 1", "meta/episodes.jsonl", "episode 2 in its place")

    def test_fewer_episodes_than_info_says(self, fake: FakeDataset) -> None:
        path = fake.root / "meta/episodes.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
        refusal(fake.root, "info.json", "total_episodes", "3 (info.json)", "last episode is 1")

    def test_fewer_frames_than_info_says(self, fake: FakeDataset) -> None:
        edit_info(fake.root, lambda info: info.update(total_frames=30))
        refusal(fake.root, "info.json", "total_frames", "30 (info.json)", "28 in the list")

    def test_frames_out_of_place_v3(self, fake_v3: FakeDataset) -> None:
        path = fake_v3.root / "meta/episodes/chunk-000/file-000.parquet"
        edit_table(path, lambda t: replace(t, "dataset_from_index", pa.array([0, 13, 21])))
        refusal(fake_v3.root, "at episode 1", str(path), "first frame 12", "first frame 13")

    def test_path_template_with_an_unknown_part(self, fake: FakeDataset) -> None:
        edit_info(fake.root, lambda info: info.update(data_path="data/{part}.parquet"))
        refusal(fake.root, "meta/info.json", "{part}")

    def test_a_camera_to_drop_that_is_not_there(self, fake: FakeDataset) -> None:
        refusal(fake.root, "front", *CAMERAS, drop_cameras=["front"])

    def test_a_check_that_is_not_there(self, fake: FakeDataset) -> None:
        refusal(fake.root, "timestamps, index", "everything", allow=["everything"])

    @pytest.mark.parametrize("key", ["video.is_depth_map", "is_depth_map"])
    def test_a_depth_camera(self, fake: FakeDataset, key: str) -> None:
        edit_info(fake.root, lambda info: info["features"][CAMERAS[1]].update(info={key: True}))
        refusal(fake.root, "depth map", CAMERAS[1], f"--drop_cameras='[{CAMERAS[1]}]'")
        Dataset(fake.root, drop_cameras=[CAMERAS[1]])


def edit_episodes(fake: FakeDataset, column: str, values: list[Any]) -> Path:
    path = fake.root / "meta/episodes/chunk-000/file-000.parquet"
    edit_table(path, lambda table: replace(table, column, pa.array(values)))
    return path


class TestWholeFilesOfOtherContent:
    """What another download would not change is not called damaged, and the remedy helps."""

    def test_numbers_that_pandas_made_floats_of(self, fake_v3: FakeDataset) -> None:
        edit_episodes(fake_v3, "data/file_index", [0.0, 0.0, 1.0])
        edit_episodes(fake_v3, f"videos/{CAMERAS[0]}/chunk_index", [0.0, 0.0, 0.0])
        assert read_frame_number(Dataset(fake_v3.root).image(CAMERAS[0], 25)) == (25, 0)

    @pytest.mark.parametrize("value", [0.5, float("nan"), None, "x"])
    def test_a_number_that_is_not_whole(self, fake_v3: FakeDataset, value: Any) -> None:
        others: list[Any] = ["0", "1"] if value == "x" else [0, 1]
        path = edit_episodes(fake_v3, "data/file_index", [*others, value])
        text = refusal(fake_v3.root, "data/file_index", str(path))
        assert "download" not in text

    @pytest.mark.parametrize("value", ["7", 2.5, None, True])
    def test_a_length_that_is_none(self, fake: FakeDataset, value: Any) -> None:
        path = fake.root / "meta/episodes.jsonl"
        path.write_text(path.read_text().replace('"length": 9', f'"length": {json.dumps(value)}'))
        text = refusal(fake.root, "length is no whole number in row 2", str(path), shown(value))
        assert "download" not in text

    def test_a_camera_that_one_episode_lacks(self, fake_v3: FakeDataset) -> None:
        edit_episodes(fake_v3, f"videos/{CAMERAS[1]}/file_index", [0, None, 1])
        edit_episodes(fake_v3, f"videos/{CAMERAS[1]}/from_timestamp", [0.0, None, 0.0])
        flags = (f"--drop_cameras='[{CAMERAS[1]}]'", "--dataset.exclude_episodes='[1]'")
        refusal(fake_v3.root, f"camera {CAMERAS[1]} has no video in episode 1", *flags)
        assert Dataset(fake_v3.root, drop_cameras=[CAMERAS[1]]).num_episodes == 3
        assert read_frame_number(Dataset(fake_v3.root, unused=[1]).image(CAMERAS[1], 25)) == (25, 1)

    @pytest.mark.parametrize(("version", "other"), [("v2.1", "v3.0"), ("v3.0", "v2.1")])
    def test_files_of_another_version(self, tmp_path: Path, version: str, other: str) -> None:
        fake = write_dataset(tmp_path / "set", version)
        edit_info(fake.root, lambda info: info.update(codebase_version=other))
        refusal(fake.root, f"calls itself {other}, and its files look like {version}", "meta/tasks", "codebase_version")

    @pytest.mark.parametrize("version", ["v2.1", "v3.0"])
    def test_no_episode_was_saved(self, tmp_path: Path, version: str) -> None:
        fake = write_dataset(tmp_path / "set", version)
        shutil.rmtree(fake.root / "meta/episodes", ignore_errors=True)
        (fake.root / "meta/episodes.jsonl").unlink(missing_ok=True)
        edit_info(fake.root, lambda info: info.update(total_episodes=0, total_frames=0))
        assert "download" not in refusal(fake.root, "no episode was saved", "total_episodes 0", "meta/info.json")

    def test_the_folder_above(self, tmp_path: Path) -> None:
        root = write_dataset(tmp_path / "lab" / "owner" / "set").root
        for above in root.parents[:2]:
            refusal(above, "a folder of data sets", f"--dataset.root={root}")

    def test_a_frame_rate_in_words(self, fake: FakeDataset) -> None:
        edit_info(fake.root, lambda info: info.update(fps="10"))
        assert "download" not in refusal(fake.root, "meta/info.json", "fps '10'", "as a number")


class TestInterruptedRecording:
    """Files of episodes that nobody asked for may be broken or missing; the message names those that are whole."""

    @pytest.fixture
    def cut(self, fake_v3: FakeDataset) -> FakeDataset:
        content = data_file(fake_v3, 1).read_bytes()
        data_file(fake_v3, 1).write_bytes(content[:-40])
        return fake_v3

    def test_the_whole_episodes_are_named_and_can_be_used(self, cut: FakeDataset) -> None:
        refusal(cut.root, str(data_file(cut, 1)), "2 of 3 episodes are whole", "--dataset.episodes='[0, 1]'")
        data = Dataset(cut.root, episodes=[0, 1])
        np.testing.assert_array_equal(data.states()[:21], cut.states[:21])
        assert [episode.tasks for episode in data.episodes[:2]] == [(cut.task_of_frame[s],) for s in cut.starts[:2]]
        assert read_frame_number(data.image(CAMERAS[1], 20)) == (20, 1)
        assert data.fingerprint() == Dataset(cut.root, unused=[2]).fingerprint()

    def test_a_file_with_a_used_episode_must_be_whole(self, cut: FakeDataset) -> None:
        refusal(cut.root, str(data_file(cut, 1)), episodes=[1, 2])

    def test_missing_files_of_an_unused_episode(self, fake: FakeDataset) -> None:
        data_file(fake, 1).unlink()
        video_file(fake, 1).unlink()
        refusal(fake.root, str(data_file(fake, 1)), "--dataset.exclude_episodes='[1]'")
        data = Dataset(fake.root, unused=[1])
        np.testing.assert_array_equal(
            np.delete(data.actions(), np.s_[12:21], 0), np.delete(fake.actions, np.s_[12:21], 0)
        )
        assert read_frame_number(data.image(CAMERAS[0], 21)) == (21, 0)

    def test_a_missing_video_offers_episode_and_camera(self, fake: FakeDataset) -> None:
        video_file(fake, 1).unlink()
        flags = ("--dataset.exclude_episodes='[1]'", f"--drop_cameras='[{CAMERAS[0]}]'")
        refusal(fake.root, str(video_file(fake, 1)), *flags)
