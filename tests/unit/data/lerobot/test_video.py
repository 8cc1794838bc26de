"""Frames by number: any order, any group of pictures, and files that are not what they should be."""

from __future__ import annotations

import gc
import os
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from fakes import numbered_image, read_frame_number

from pi05.data.lerobot.video import FrameIndex, VideoCache, VideoFault, index_frames

FRAMES = 60


def encode(path: Path, codec: str, options: dict[str, str], times: list[int] | None = None) -> None:
    """Write numbered pictures, at 10 frames/s or at given times in 1/100 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(numbered_image(number, 0, 64, 64), format="rgb24")
            frame.pts = times[number] if times else number * 10
            frame.time_base = Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


CODECS = {
    "key frames at every second": ("libx264", {"g": "2", "bf": "0"}),
    "long groups with B-frames": ("libx264", {"g": "25", "bf": "3"}),
    "one group": ("libx264", {"g": "1000", "bf": "2"}),
    "open groups": ("libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1:b-pyramid=normal"}),
    "open groups, H.265": ("libx265", {"x265-params": "keyint=12:open-gop=1:bframes=3:log-level=none"}),
    "AV1": ("libsvtav1", {"g": "2", "crf": "20", "preset": "10", "svtav1-params": "avif=0"}),
}


@pytest.fixture(params=CODECS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    codec, options = CODECS[request.param]
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {codec}")
    encode(tmp_path / "video.mp4", codec, options)
    return tmp_path / "video.mp4"


def test_index(path: Path) -> None:
    index = index_frames(path)
    assert len(index) == FRAMES
    np.testing.assert_allclose(index.seconds - index.seconds[0], np.arange(FRAMES) / 10, atol=1e-9)
    assert index.key_frames[0] == 0
    assert index.number_of(int(index.pts[7])) == 7
    assert index.number_of(int(index.pts[7]) + 1) is None
    assert index.number_of(None) is None


def test_every_order_gives_the_same_frames(path: Path) -> None:
    cache = VideoCache()
    forward = list(cache.frames(path, 0, FRAMES))
    assert [read_frame_number(image)[0] for image in forward] == list(range(FRAMES))
    orders = [range(FRAMES - 1, -1, -1), np.random.default_rng(0).permutation(FRAMES), [30, 30, 31, 5, 59, 0, 58]]
    for order in orders:
        for number in order:
            np.testing.assert_array_equal(cache.frame(path, int(number)), forward[number])


def test_a_stretch(path: Path) -> None:
    stretch = list(VideoCache().frames(path, 17, 22))
    assert [read_frame_number(image)[0] for image in stretch] == [17, 18, 19, 20, 21]


def test_nearest() -> None:
    index = FrameIndex(np.array([0, 10, 20]), Fraction(1, 100), np.array([0]), np.array([0]))
    assert [index.nearest(t) for t in (-1.0, 0.0, 0.04, 0.06, 0.1, 0.16, 0.2, 9.0)] == [0, 0, 0, 1, 1, 2, 2, 2]
    single = FrameIndex(np.array([5]), Fraction(1, 100), np.array([0]), np.array([5]))
    assert [single.nearest(t) for t in (0.0, 9.0)] == [0, 0]


def test_uneven_times(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).integers(3, 30, FRAMES)).tolist()
    encode(tmp_path / "video.mp4", "libx264", {"g": "7"}, times)
    cache = VideoCache()
    seconds = cache.index(tmp_path / "video.mp4").seconds
    np.testing.assert_allclose(np.diff(seconds), np.diff(times) / 100, atol=1e-9)
    assert [read_frame_number(cache.frame(tmp_path / "video.mp4", k))[0] for k in (40, 3, 4, 59)] == [40, 3, 4, 59]


def test_a_frame_past_the_end(path: Path) -> None:
    with pytest.raises(VideoFault, match="too short") as caught:
        VideoCache().frame(path, FRAMES)
    assert (caught.value.wanted, caught.value.found) == ("frame 60", "60 frames")


def test_few_files_stay_open(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.mp4" for number in range(5)]
    for path in paths:
        encode(path, "libx264", {"preset": "ultrafast"})
    cache = VideoCache(max_open=2)
    for number in (0, 20, 40):
        for path in paths:
            assert read_frame_number(cache.frame(path, number))[0] == number
    assert list(cache._readers) == paths[-2:]
    cache.close()
    assert not cache._readers
    assert read_frame_number(cache.frame(paths[0], 1))[0] == 1


def test_no_video_in_the_file(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoFault, match="no video"):
        VideoCache().frame(tmp_path / "sound.mp4", 0)


def test_no_threads(path: Path) -> None:
    """As many threads decode as the loader has."""
    before = len(os.listdir("/proc/self/task"))
    cache = VideoCache()
    cache.frame(path, 30)
    stretch = cache.frames(path, 3, 20)
    next(stretch)
    assert len(os.listdir("/proc/self/task")) == before


def test_nothing_stays_open_behind_the_cache(path: Path) -> None:
    """Freed at once, with its file and its buffers, and not when the garbage collector comes by."""
    gc.disable()
    try:
        cache = VideoCache()
        cache.frame(path, 30)
        reader = weakref.ref(cache._readers[path])
        del cache
        assert reader() is None
    finally:
        gc.enable()


def test_pictures_that_no_memory_should_hold(tmp_path: Path) -> None:
    """A black video of a few kilobytes, whose pictures take 100 MB each when they are decoded."""
    side, path = 6000, tmp_path / "large.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.height, stream.width, stream.pix_fmt = side, side, "gray"
        frame = av.VideoFrame(side, side, "gray")
        memoryview(frame.planes[0])[:] = bytes(frame.planes[0].buffer_size)
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert path.stat().st_size < 2**20
    with pytest.raises(VideoFault, match=r"too large.*33,554,432 pixels.*6000 × 6000"):
        VideoCache().frame(path, 0)


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile other.mp4\n"]
)
@pytest.mark.parametrize("name", ["video.mp4", "video.m3u8"])
def test_what_names_other_files_is_no_video(tmp_path: Path, text: str, name: str) -> None:
    encode(tmp_path / "other.mp4", "libx264", {"g": "2"})
    (tmp_path / name).write_text(text)
    with pytest.raises(VideoFault, match="cannot be opened"):
        index_frames(tmp_path / name)
