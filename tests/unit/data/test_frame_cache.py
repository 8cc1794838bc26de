"""The frame cache: right pictures, built once, rebuilt when the source changes, nothing half-written left behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fakes import CAMERAS, FakeDataset, read_frame_number, write_dataset

from pi05.data.frame_cache import FrameCache, FrameSource, cache_directory
from pi05.data.lerobot.reader import Dataset
from pi05.data.resize import OPENPI_RESIZE, fit_image_to_bytes, resize_with_pad
from pi05.errors import DataError

SIZE = 48


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> FakeDataset:
    return write_dataset(tmp_path_factory.mktemp("data") / "set", height=48, width=48)


class Counting:
    """A data set that counts its decoded episodes, and can be made to change or to break."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.episodes_read = 0
        self.version = ""
        self.fail_in: int | None = None
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def fingerprint(self) -> str:
        return self.dataset.fingerprint() + self.version

    def iter_frames(self, camera: str, episode: int) -> Iterator[np.ndarray]:
        self.episodes_read += 1
        if episode == self.fail_in:
            raise OSError("the disk is gone")
        frames = list(self.dataset.iter_frames(camera, episode))
        yield from frames[: len(frames) - self.lost]
        yield from frames[:1] * -self.lost


@pytest.fixture
def dataset(fake: FakeDataset) -> Counting:
    return Counting(Dataset(fake.root))


def test_every_picture_is_in_its_place(dataset: Counting, tmp_path: Path) -> None:
    frames = FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    assert isinstance(frames, FrameSource)
    assert (len(frames), frames.camera_keys, frames.image_size) == (dataset.num_frames, CAMERAS, SIZE)
    for index in range(dataset.num_frames):
        images = frames.images(index)
        assert images.shape == (2, SIZE, SIZE, 3)
        assert [read_frame_number(image) for image in images] == [(index, 0), (index, 1)]


def test_slot_order_and_size(dataset: Counting, tmp_path: Path) -> None:
    frames = FrameCache.build(dataset, CAMERAS[::-1], 24, tmp_path)
    expected = resize_with_pad(dataset.frame(5)[CAMERAS[1]], 24)
    np.testing.assert_array_equal(frames.images(5)[0], expected)


def test_the_cache_holds_what_decoding_gives(dataset: Counting, tmp_path: Path) -> None:
    frames = FrameCache.build(dataset, CAMERAS, 32, tmp_path)
    for index in (0, 13, dataset.num_frames - 1):
        decoded = [fit_image_to_bytes(dataset.frame(index)[key], 32, OPENPI_RESIZE) for key in CAMERAS]
        np.testing.assert_array_equal(frames.images(index), np.stack(decoded))


def test_built_once(dataset: Counting, tmp_path: Path) -> None:
    first = FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    read = dataset.episodes_read
    assert read == 2 * dataset.num_episodes
    again = FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    assert dataset.episodes_read == read
    assert again.path == first.path


def test_rebuilt_when_the_source_changes_and_the_old_one_goes(dataset: Counting, tmp_path: Path) -> None:
    first = FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    other_size = FrameCache.build(dataset, CAMERAS, 24, tmp_path)
    dataset.version = "changed"
    changed = FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    assert changed.path != first.path
    assert set(tmp_path.iterdir()) == {changed.path, other_size.path}


def test_progress_first_tells_the_size(dataset: Counting, tmp_path: Path) -> None:
    heard: list[tuple[int, int, str]] = []
    FrameCache.build(dataset, CAMERAS, SIZE, tmp_path, progress=lambda *news: heard.append(news))
    total = 2 * dataset.num_frames
    assert heard[0][:2] == (0, total)
    assert f"{dataset.num_frames * 2 * SIZE * SIZE * 3 / 1e3:.0f} kB" in heard[0][2]
    assert str(tmp_path) in heard[0][2]
    assert heard[-1][:2] == (total, total)
    assert [done for done, _, _ in heard] == sorted(done for done, _, _ in heard)


def test_a_failure_leaves_nothing(dataset: Counting, tmp_path: Path) -> None:
    dataset.fail_in = 1
    with pytest.raises(OSError, match="the disk is gone"):
        FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    assert list(tmp_path.iterdir()) == []
    dataset.fail_in = None
    assert len(FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)) == dataset.num_frames


@pytest.mark.parametrize(("lost", "found"), [(2, 10), (-1, 13)])
def test_a_video_of_another_length_is_an_error(dataset: Counting, tmp_path: Path, lost: int, found: int) -> None:
    dataset.lost = lost
    with pytest.raises(DataError) as error:
        FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    message = str(error.value)
    assert "does not fit episode 0" in message
    assert "12 frames" in message
    assert f"found:  {found}" in message
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_work_starts(
    dataset: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1000))
    with pytest.raises(DataError, match="PI05_CACHE"):
        FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    assert dataset.episodes_read == 0


def test_a_cache_folder_that_cannot_be_written(
    dataset: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who may all
    with pytest.raises(DataError, match="no permission to write the resized frames") as refusal:
        FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    assert "--dataset.cache_dir" in refusal.value.remedy
    assert dataset.episodes_read == 0


def test_a_cache_folder_that_cannot_be_made(dataset: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="no permission to write the resized frames"):
        FrameCache.build(dataset, CAMERAS, SIZE, tmp_path / "file" / "frames")


def test_a_quota_that_is_hit_is_an_error_not_a_crash(
    dataset: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(DataError, match="no room on the disk"):
        FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)
    assert dataset.episodes_read == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept_bytes", [0, 60, 5000])
def test_a_cache_that_was_cut_off_is_built_again(dataset: Counting, tmp_path: Path, kept_bytes: int) -> None:
    whole = FrameCache.build(dataset, CAMERAS, 24, tmp_path)
    content = whole.path.read_bytes()
    del whole
    path = next(tmp_path.iterdir())
    path.write_bytes(content[:kept_bytes])
    assert FrameCache.build(dataset, CAMERAS, 24, tmp_path).path.read_bytes() == content


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI05_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    assert cache_directory("elsewhere") == Path("elsewhere")
    monkeypatch.delenv("PI05_CACHE")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_directory() == Path("/home/me/.cache/pi05/frames")


def test_episodes_that_nobody_uses_are_not_decoded(dataset: Counting, tmp_path: Path) -> None:
    dataset.fail_in = 1
    frames = FrameCache.build(dataset, CAMERAS, SIZE, tmp_path, episodes=[2, 0])
    assert dataset.episodes_read == 2 * len(CAMERAS)
    whole = FrameCache.build(dataset.dataset, CAMERAS, SIZE, tmp_path)
    for episode in dataset.episodes:
        span = slice(episode.start, episode.start + episode.length)
        found = np.stack([frames.images(i) for i in range(span.start, span.stop)])
        wanted = np.stack([whole.images(i) for i in range(span.start, span.stop)])
        assert np.array_equal(found, wanted) == (episode.index != 1)
        assert found.any() == (episode.index != 1)


def test_each_kind_of_resize_has_its_own_cache(dataset: Counting, tmp_path: Path) -> None:
    openpi = FrameCache.build(dataset, CAMERAS, 24, tmp_path)
    lerobot = FrameCache.build(dataset, CAMERAS, 24, tmp_path, resize="lerobot-bilinear-pad")
    assert openpi.path != lerobot.path
    assert openpi.path.is_file(), "the other kind is no older state of the same"
    expected = fit_image_to_bytes(dataset.frame(5)[CAMERAS[0]], 24, "lerobot-bilinear-pad")
    np.testing.assert_array_equal(lerobot.images(5)[0], expected)
    assert np.abs(lerobot.images(5).astype(int) - openpi.images(5)).max() > 2


BUILDS = """
import sys, time
from pathlib import Path
from pi05.data.frame_cache import FrameCache
from pi05.data.lerobot.reader import Dataset

def progress(done, total, text):
    print(text, flush=True)
    if done and sys.argv[3] == "hang":
        time.sleep(600)

cache = FrameCache.build(Dataset(Path(sys.argv[1])), sys.argv[4:], 48, Path(sys.argv[2]), progress)
print("sum", int(cache._frames.sum()))
"""


@pytest.mark.process
def test_a_second_process_waits_and_builds_what_a_killed_one_has_not(fake: FakeDataset, tmp_path: Path) -> None:
    def start(how: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", BUILDS, str(fake.root), str(tmp_path / "cache"), how, *CAMERAS]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    first, second = start("hang"), None
    try:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("resizing")
        assert first.stdout.readline().startswith("resizing")  # in the middle of it
        second = start("on")
        assert second.stdout is not None
        assert second.stdout.readline().startswith("waiting for another process, which is writing ")
        assert len(list((tmp_path / "cache").glob("*.tmp"))) == 1
        first.send_signal(signal.SIGKILL)
        told = second.communicate(timeout=60)[0]
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.communicate()
    assert second.returncode == 0
    (made,) = (tmp_path / "cache").iterdir()  # no leftover of the first, and no lock
    expected = FrameCache.build(Dataset(fake.root), CAMERAS, SIZE, tmp_path / "again")
    assert f"sum {int(np.asarray(expected._frames).sum())}" in told
    assert made.name == expected.path.name


def test_leftovers_go_before_room_is_asked_for(
    dataset: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / ".another-prefix-12.npy.0123abcd.tmp"
    leftover.write_bytes(bytes(1000))

    def asked(folder: Path, *_: object) -> None:
        assert not leftover.exists()

    monkeypatch.setattr("pi05.data.frame_cache.require_space", asked)
    FrameCache.build(dataset, CAMERAS, SIZE, tmp_path)


def test_a_name_that_is_a_pattern_does_not_reach_other_caches(fake: FakeDataset, tmp_path: Path) -> None:
    root = tmp_path / "[ab]-*"
    shutil.copytree(fake.root, root)
    dataset = Counting(Dataset(root))
    first = FrameCache.build(dataset, CAMERAS, SIZE, tmp_path / "cache").path
    other = first.with_name(first.name.replace("[ab]-*", "a-x"))
    shutil.copy(first, other)
    dataset.version = "changed"
    second = FrameCache.build(dataset, CAMERAS, SIZE, tmp_path / "cache").path
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {second.name, other.name}
