"""Write one video file frame by frame: H.264 with a key frame at every second frame, as LeRobot does.

The encoder stays open over many episodes, since opening one costs as much as encoding a hundred small frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from pi05.data.lerobot.video import ONE_THREAD

GOP = 2
"""Every second frame is a key frame, so that a random frame costs two decodes at most (LeRobot's choice)."""


@dataclass(frozen=True)
class Quality:
    """How much of a picture survives."""

    pixel_format: str
    crf: int
    """x264's quality: 0 is lossless, 23 its default."""


PHOTO = Quality("yuv420p", 18)
"""For cameras: what every player can show."""
SMALL = Quality("yuv444p", 10)
"""For pictures of less than `SMALL_SIDE` pixels, where colour at half resolution washes objects out.

Measured on 1,000 pictures of 48x48 with six coloured blocks: mean error of a value 0.36 of 255 (99 % under 5), against
3.7 (99 % under 57) with yuv420p at any `crf`; the file is of the same size.
"""
SMALL_SIDE = 128


def quality_for(height: int, width: int) -> Quality:
    """Return the quality for pictures of a size."""
    return SMALL if min(height, width) < SMALL_SIDE else PHOTO


class VideoEncoder:
    """One video file in the making. Frame k is shown at exactly k / fps."""

    def __init__(self, path: Path, fps: int, height: int, width: int, quality: Quality | None = None) -> None:
        quality = quality or quality_for(height, width)
        if quality.pixel_format == "yuv420p" and (height % 2 or width % 2):
            raise ValueError(f"video of {height}x{width}: yuv420p needs even sides")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.frames = path, 0
        self.size_bytes = 0
        """Bytes of the pictures encoded so far; the encoder holds the last few back."""
        self._time_base = Fraction(1, fps)
        self._container = av.open(str(path), "w", format="mp4")
        # Without B-frames no picture is held back, so that a file can be cut between any two frames.
        options = {"g": str(GOP), "crf": str(quality.crf), "preset": "veryfast", "bf": "0"}
        if min(height, width) < SMALL_SIDE:  # handing small pictures between threads takes longer than encoding them
            options["threads"] = "1"
        self._reformatter = VideoReformatter()
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps), options=options)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, quality.pixel_format
        self._stream.time_base = self._time_base

    def add(self, image: UInt8[np.ndarray, "height width 3"]) -> None:
        """Append one RGB frame."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = self._reformatter.reformat(frame, format=self._stream.pix_fmt, **ONE_THREAD)
        frame.pts, frame.time_base = self.frames, self._time_base
        self._write(frame)
        self.frames += 1

    def _write(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self.size_bytes += packet.size
                self._container.mux(packet)
        except av.FFmpegError as error:  # a full disk, most of all
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Write what the encoder still holds, and the index of the file."""
        self._write(None)
        try:
            self._container.close()
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
