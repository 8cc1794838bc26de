"""PyAV as it is, and as it may be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pi05.doctor.facts import Video
from pi05.doctor.probes.video import probe_video


def test_the_pyav_of_this_environment_decodes_all() -> None:
    video = probe_video()
    assert video.fault is None
    assert all(video.decoders.values())
    assert set(video.decoders) == {"H.264", "HEVC", "AV1"}


def test_ffmpegs_own_av1_is_no_decoder_on_the_cpu() -> None:
    av = SimpleNamespace(
        __version__="14.0.0", library_versions={"libavcodec": (59, 37)}, codecs_available={"h264", "hevc", "av1"}
    )
    decoders = {"H.264": "h264", "HEVC": "hevc", "AV1": None}
    assert probe_video(lambda: av) == Video(version="14.0.0", ffmpeg="59.37", decoders=decoders)


def test_a_pyav_that_cannot_be_imported() -> None:
    def load() -> Any:
        raise OSError("libavcodec.so.61: no such file\nmore")

    assert probe_video(load) == Video(fault="OSError: libavcodec.so.61: no such file")
