"""Videos and pictures that are broken: each error names camera, episode, file and remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from broken import data_file, edit_table, refusal, refusal_of_frame, replace, video_file
from fakes import CAMERAS, FakeDataset, numbered_image, read_frame_number, write_dataset, write_video

from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError


class TestBrokenPictures:
    def test_a_video_with_fewer_frames(self, fake: FakeDataset) -> None:
        path = video_file(fake, 1)
        write_video(path, [numbered_image(12 + k, 0) for k in range(7)], 10)
        refusal_of_frame(fake.root, 14, str(path), "episode 1", CAMERAS[0], "9 frames", "7 frames")

    def test_a_video_with_fewer_frames_v3(self, fake_v3: FakeDataset) -> None:
        path = video_file(fake_v3, 0)
        write_video(path, [numbered_image(k, 0) for k in range(19)], 10)
        assert read_frame_number(Dataset(fake_v3.root).image(CAMERAS[0], 11)) == (11, 0)
        refusal_of_frame(fake_v3.root, 12, str(path), "episode 1", CAMERAS[0], "9 frames", "7 frames")

    def test_a_video_that_ends_before_the_episode_begins(self, fake_v3: FakeDataset) -> None:
        path = video_file(fake_v3, 0)
        write_video(path, [numbered_image(k, 0) for k in range(10)], 10)
        refusal_of_frame(fake_v3.root, 12, str(path), "episode 1", "1.2000 s", "0.9000 s")

    def test_a_cut_off_video(self, fake: FakeDataset) -> None:
        path = video_file(fake, 1)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refusal_of_frame(fake.root, 14, str(path), "episode 1", "cannot be opened")

    def test_a_cut_off_video_with_its_index_in_front(self, fake: FakeDataset, tmp_path: Path) -> None:
        path = video_file(fake, 1)
        write_faststart(path, [numbered_image(12 + k, 0) for k in range(9)])
        assert read_frame_number(Dataset(fake.root).image(CAMERAS[0], 20)) == (20, 0)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
        refusal_of_frame(fake.root, 14, str(path), "episode 1", "cut off", "9 frames (its header)")

    def test_no_video_at_all(self, fake: FakeDataset) -> None:
        video_file(fake, 1).write_bytes(b"<html>404</html>" * 100)
        refusal_of_frame(fake.root, 14, str(video_file(fake, 1)), "episode 1", "cannot be opened")

    def test_a_damaged_stretch_of_video(self, fake: FakeDataset) -> None:
        path, rng = video_file(fake, 1), np.random.default_rng(0)
        write_video(path, list(rng.integers(0, 255, (9, 48, 64, 3), dtype=np.uint8)), 10)
        assert len(list(Dataset(fake.root).iter_frames(CAMERAS[0], 1))) == 9
        content = bytearray(path.read_bytes())
        begin, end = content.index(b"mdat"), content.index(b"moov")
        for place in range((begin + end) // 2, (begin + end) // 2 + 100):
            content[place] ^= 0x5A
        path.write_bytes(content)
        data = Dataset(fake.root)
        with pytest.raises(DataError, match=r"(?s)cannot be decoded .*episode 1\).*episode_000001\.mp4"):
            list(data.iter_frames(CAMERAS[0], 1))
        with pytest.raises(DataError, match=r"cannot be decoded .*episode 1\)"):
            [data.image(CAMERAS[0], i) for i in range(12, 21)]

    def test_a_video_of_another_frame_rate(self, fake: FakeDataset) -> None:
        path = video_file(fake, 1)
        write_video(path, [numbered_image(12 + k, 0) for k in range(9)], 15)
        refusal_of_frame(fake.root, 14, str(path), "episode 1", "10 frames/s", "--allow='[timestamps]'")
        assert read_frame_number(Dataset(fake.root, allow=["timestamps"]).image(CAMERAS[0], 14)) == (14, 0)

    def test_a_late_clock_and_another_count_of_frames(self, fake: FakeDataset) -> None:
        edit_table(data_file(fake, 1), lambda t: replace(t, "timestamp", pa.array(t["timestamp"].to_numpy() + 0.1)))
        path = video_file(fake, 1)
        write_video(path, [numbered_image(11 + k, 0) for k in range(10)], 10)
        refusal_of_frame(fake.root, 14, str(path), "episode 1", "wanted: 9 frames", "10 frames")

    def test_episodes_that_overlap_in_a_video(self, fake_v3: FakeDataset) -> None:
        path = fake_v3.root / "meta/episodes/chunk-000/file-000.parquet"
        column = f"videos/{CAMERAS[0]}/from_timestamp"
        edit_table(path, lambda t: replace(t, column, pa.array([0.0, 1.0, 0.0])))
        refusal(fake_v3.root, str(video_file(fake_v3, 0)), "episodes 0 and 1 overlap", "1.2000 s")

    def test_an_episode_that_begins_between_frames(self, fake_v3: FakeDataset) -> None:
        path = fake_v3.root / "meta/episodes/chunk-000/file-000.parquet"
        column = f"videos/{CAMERAS[0]}/from_timestamp"
        edit_table(path, lambda t: replace(t, column, pa.array([0.0, 1.24, 0.0])))
        refusal_of_frame(fake_v3.root, 14, str(video_file(fake_v3, 0)), "episode 1", "1.2400 s", "1.2000 s")

    def test_pictures_of_another_size(self, fake: FakeDataset) -> None:
        path = video_file(fake, 1)
        write_video(path, [numbered_image(12 + k, 0, 96, 128) for k in range(9)], 10)
        refusal_of_frame(fake.root, 14, "meta/info.json", "episode 1", "height 96, width 128")

    @pytest.mark.parametrize("content", [b"not a picture", b""])
    def test_a_damaged_picture_in_parquet(self, tmp_path: Path, content: bytes) -> None:
        fake = write_dataset(tmp_path / "set", "v3.0", storage="image")

        def spoil(table: pa.Table) -> pa.Table:
            cells = table[CAMERAS[0]].to_pylist()
            cells[14]["bytes"] = content
            return replace(table, CAMERAS[0], pa.array(cells, table[CAMERAS[0]].type))

        edit_table(data_file(fake, 0), spoil)
        refusal_of_frame(fake.root, 14, str(data_file(fake, 0)), "episode 1, frame 2", CAMERAS[0])


def write_faststart(path: Path, frames: list[np.ndarray]) -> None:
    """Write a video whose index lies in front of the pictures, so that it opens when its end is missing."""
    from fractions import Fraction

    import av

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(10), options={"g": "2"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
