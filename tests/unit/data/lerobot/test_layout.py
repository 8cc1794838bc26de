"""Files that a data set lists and that are not there, or empty."""

from __future__ import annotations

import shutil

from broken import data_file, edit_info, refusal, video_file
from fakes import CAMERAS, FakeDataset


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
