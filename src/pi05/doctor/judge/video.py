"""Can the videos of data sets be decoded?"""

from __future__ import annotations

from collections.abc import Iterator

from pi05.doctor.facts import Machine, Video
from pi05.doctor.remedies import install
from pi05.finding import Finding, error, ok, warning


def judge_video(facts: Video, machine: Machine) -> Iterator[Finding]:
    """Yield what is to be said about PyAV and its FFmpeg."""
    remedy = install(machine, "av>=14", again=True)
    if facts.fault is not None:
        yield error("video.import", f"PyAV cannot be imported: {facts.fault}", "cannot read any data set", remedy)
        return
    missing = [codec for codec, decoder in facts.decoders.items() if decoder is None]
    if missing:
        yield warning(
            "video.decoders",
            f"PyAV {facts.version} (libavcodec {facts.ffmpeg}) has no decoder on the CPU for {', '.join(missing)}",
            "fails on data sets whose videos are of that kind",
            f"{remedy}  # the wheels of PyPI bring their own FFmpeg",
        )
    else:
        yield ok("video.ok", f"PyAV {facts.version} (libavcodec {facts.ffmpeg}) decodes {', '.join(facts.decoders)}")
