"""Metadata and lists of files that are broken: each error names the file, the episode where there is one, a remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from broken import data_file, edit_info, edit_table, refusal, replace, video_file
from fakes import CAMERAS, FakeDataset

from pi05.data.lerobot.reader import Dataset


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


class TestMissingFiles:
    def test_one_video(self, fake: FakeDataset) -> None:
        path = video_file(fake, 1)
        path.unlink()
        refusal(fake.root, str(path), "episode 1", CAMERAS[0], "1 of 3 are missing", "git lfs pull")

    def test_one_video_v3(self, fake_v3: FakeDataset) -> None:
        path = video_file(fake_v3, 1)
        path.unlink()
        refusal(fake_v3.root, str(path), "episode 2", CAMERAS[0], "1 of 2 are missing")

    def test_a_ghost_camera(self, fake: FakeDataset) -> None:
        shutil.rmtree(fake.root / "videos/chunk-000" / CAMERAS[1])
        refusal(fake.root, CAMERAS[1], "no videos", "episode 0", f"--drop_cameras='[{CAMERAS[1]}]'")

    def test_a_ghost_camera_v3(self, fake_v3: FakeDataset) -> None:
        ghost = {"dtype": "video", "shape": [48, 64, 3], "names": None}
        edit_info(fake_v3.root, lambda info: info["features"].update({"observation.images.ghost": ghost}))
        refusal(fake_v3.root, "camera observation.images.ghost", "no videos", "file-000.parquet", "--drop_cameras")

    def test_one_data_file(self, fake: FakeDataset) -> None:
        data_file(fake, 2).unlink()
        refusal(fake.root, str(data_file(fake, 2)), "data file of episode 2", "1 of 3 are missing")

    def test_a_git_lfs_pointer(self, fake: FakeDataset) -> None:
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123456\n"
        video_file(fake, 2).write_text(pointer)
        refusal(fake.root, str(video_file(fake, 2)), "episode 2", "git-lfs pointer", "git lfs pull")

    def test_a_git_lfs_pointer_for_data(self, fake_v3: FakeDataset) -> None:
        data_file(fake_v3, 0).write_text("version https://git-lfs.github.com/spec/v1\n")
        refusal(fake_v3.root, str(data_file(fake_v3, 0)), "episode 0", "git-lfs pointer")

    def test_an_empty_file(self, fake: FakeDataset) -> None:
        data_file(fake, 1).write_bytes(b"")
        refusal(fake.root, str(data_file(fake, 1)), "episode 1", "0 bytes")
