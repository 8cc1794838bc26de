"""Frames out of video files, by number and exactly; PyAV with its own FFmpeg, nothing to install on the system.

A file is first demuxed (packets, no decoding), which gives every frame's presentation time. So a frame number means
the n-th frame shown, seeking goes to a known key frame, and a file that was cut off is found out. Leaves out
which episode a file belongs to: problems are raised as `VideoFault` and the caller names the episode.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float64, Int64, UInt8

ONE_THREAD: dict[str, Any] = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}
"""Conversion of colours in the calling thread (older PyAV knows nothing else).

No decoder and no converter here has threads of its own: the loader's threads are as many as were asked for, and slice
threads would swallow the error of a damaged frame.
"""


LARGEST_PICTURE = 2**25
"""Pixels of the largest picture that is decoded: a little more than 7680 × 4320. A small file may announce far more."""
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg"
"""Kinds of files that are opened as videos: none that names further files, as playlists do."""


class VideoFault(Exception):
    """A video file is not what it should be. `wanted` and `found` go into the DataError that names the episode.

    `remedy` is what to do, where another copy of the file would not help.
    """

    def __init__(self, problem: str, *, wanted: str, found: str, remedy: str | None = None) -> None:
        super().__init__(f"{problem} (wanted {wanted}, found {found})")
        self.problem, self.wanted, self.found, self.remedy = problem, wanted, found, remedy


@dataclass(frozen=True)
class FrameIndex:
    """When each frame of a file is shown, in the file's own time unit, in order; and where decoding can start."""

    pts: Int64[np.ndarray, " frames"]
    time_base: Fraction
    key_frames: Int64[np.ndarray, " keys"]
    """Numbers of the frames at which decoding can start."""
    key_seek: Int64[np.ndarray, " keys"]
    """Decoding times of those frames, which is what seeking goes by."""

    def __len__(self) -> int:
        return len(self.pts)

    @cached_property
    def seconds(self) -> Float64[np.ndarray, " frames"]:
        """Presentation times in seconds."""
        return self.pts * float(self.time_base)

    def number_of(self, pts: int | None) -> int | None:
        """Return the number of the frame with a presentation time, or None where there is none."""
        if pts is None:
            return None
        number = int(np.searchsorted(self.pts, pts))
        return number if number < len(self.pts) and self.pts[number] == pts else None

    def nearest(self, seconds: float) -> int:
        """Return the number of the frame shown nearest to a time."""
        times = self.seconds
        right = int(np.clip(np.searchsorted(times, seconds), 1, max(len(times) - 1, 1)))
        if right >= len(times):
            return len(times) - 1
        return right - 1 if seconds - times[right - 1] <= times[right] - seconds else right


def index_frames(path: Path) -> FrameIndex:
    """Demux a video file and return its frame index. Raises VideoFault when the file is cut off or no video."""
    packets: list[tuple[int, int, bool]] = []
    with _open(path) as container:
        stream = _video_stream(container)
        time_base, promised = stream.time_base, stream.frames
        try:
            held = 0
            for packet in container.demux(stream):
                if packet.pts is None or packet.is_corrupt:
                    continue
                held += 1
                if not packet.is_discard:
                    seek = packet.pts if packet.dts is None else packet.dts
                    packets.append((packet.pts, seek, packet.is_keyframe))
        except av.FFmpegError as error:
            raise VideoFault("the video is damaged", wanted="a readable video", found=str(error)) from error
    if held < promised:
        raise VideoFault("the video is cut off", wanted=f"{promised} frames (its header)", found=f"{held} frames")
    if not packets or time_base is None:
        raise VideoFault("the video is empty", wanted="at least one frame", found="none")
    packets.sort()
    pts = np.array([packet[0] for packet in packets], dtype=np.int64)
    if (np.diff(pts) == 0).any():
        raise VideoFault("the video is damaged", wanted="one frame at a time", found="two frames with one time")
    keys = [number for number, packet in enumerate(packets) if packet[2]]
    seeks = [packets[number][1] for number in keys]
    return FrameIndex(pts, Fraction(time_base), np.array(keys, dtype=np.int64), np.array(seeks, dtype=np.int64))


def promised_frames(path: Path) -> int:
    """Return how many frames a file's header promises; 0 where it does not tell. Takes some milliseconds."""
    with _open(path) as container:
        return int(_video_stream(container).frames)


def _open(path: Path) -> Any:
    try:
        # absolute: a name with a colon would be taken for an address
        return av.open(str(path.absolute()), options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"})
    except (av.FFmpegError, OSError) as error:
        raise VideoFault("the video cannot be opened", wanted="a complete video file", found=str(error)) from error


def _video_stream(container: Any) -> Any:
    if not container.streams.video:
        raise VideoFault("the file holds no video", wanted="a video stream", found="none")
    return container.streams.video[0]


class VideoReader:
    """One open video file. Frames come as RGB; going forward decodes on, going anywhere else seeks."""

    def __init__(self, path: Path, index: FrameIndex) -> None:
        self.path, self.index = path, index
        self._container = _open(path)
        self._stream = _video_stream(self._container)
        # Damage must be an error: left alone, FFmpeg paints over it, and the training set has smeared pictures in it.
        # (Slice threads would swallow the error; see ONE_THREAD.)
        # A picture that is larger than announced is an error, too, before there is memory for it.
        decoder = self._stream.codec_context
        decoder.options = {"err_detect": "explode", "max_pixels": str(LARGEST_PICTURE)}
        if decoder.width * decoder.height > LARGEST_PICTURE:
            self._container.close()
            raise VideoFault(
                "the pictures of the video are too large",
                wanted=f"at most {LARGEST_PICTURE:,} pixels",
                found=f"{decoder.width} × {decoder.height}",
                remedy="write the video anew with smaller pictures",
            )
        self._stream.codec_context.thread_count = 1
        self._reformatter = VideoReformatter()
        self._decoder: Iterator[Any] | None = None
        self._next = 0
        """Number of the frame that the decoder gives next."""

    def frame(self, number: int) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one frame."""
        if not 0 <= number < len(self.index):
            raise VideoFault("the video is too short", wanted=f"frame {number}", found=f"{len(self.index)} frames")
        key = int(np.searchsorted(self.index.key_frames, number, side="right")) - 1
        going_on = self._decoder is not None and self._next <= number
        if going_on and (key < 0 or self.index.key_frames[key] <= self._next):
            frame = self._advance(number)
            if frame is not None:
                return self._to_rgb(frame)
        while key >= 0:
            self._seek(key)
            try:
                frame = self._advance(number)
            except VideoFault:
                break  # some "open" groups of H.264 decode only after all that is before them
            if frame is not None:
                return self._to_rgb(frame)
            key -= 1  # a container may land past the key frame that it was asked for
        self._seek(-1)
        frame = self._advance(number)
        if frame is None:
            raise VideoFault("a frame cannot be decoded", wanted=f"frame {number}", found="no picture at its time")
        return self._to_rgb(frame)

    def close(self) -> None:
        """Release the file and the decoder."""
        self._decoder = None
        self._container.close()

    def _seek(self, key: int) -> None:
        """Start decoding at the key frame of that number, or (-1) at the file's beginning."""
        target = int(self.index.key_seek[key]) if key >= 0 else int(self.index.pts[0])
        try:
            self._container.seek(target, stream=self._stream, backward=True, any_frame=False)
        except av.FFmpegError as error:
            raise VideoFault("the video cannot be searched", wanted="a seekable video", found=str(error)) from error
        first_pts = int(self.index.pts[self.index.key_frames[key]]) if key >= 0 else None
        self._decoder = _decode(self._container, self._stream, first_pts)

    def _advance(self, number: int) -> Any | None:
        """Decode until frame `number`; None when the decoder is already past it or gives out."""
        assert self._decoder is not None
        try:
            for frame in self._decoder:
                current = self.index.number_of(frame.pts)
                if current is None:
                    continue
                self._next = current + 1
                if current == number:
                    return frame
                if current > number:
                    return None
        except av.FFmpegError as error:
            self._decoder = None
            raise VideoFault("a frame cannot be decoded", wanted=f"frame {number}", found=str(error)) from error
        self._decoder = None
        return None

    def _to_rgb(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        array: np.ndarray = self._reformatter.reformat(frame, format="rgb24", **ONE_THREAD).to_ndarray()
        return array


def _decode(container: Any, stream: Any, first_pts: int | None) -> Iterator[Any]:
    """Yield decoded frames from where the file was searched to.

    Pictures that are stored after the key frame but shown before it ("open" groups) build on pictures before the key
    frame: they cannot be decoded from here, and no later picture needs them.
    """
    for packet in container.demux(stream):
        if first_pts is not None and packet.pts is not None and packet.pts < first_pts:
            continue
        yield from packet.decode()


class VideoCache:
    """Open videos, the latest `max_open` of them; frame indices of all videos seen. For several threads (one lock)."""

    def __init__(self, max_open: int = 8) -> None:
        self._max_open = max_open
        self._indices: dict[Path, FrameIndex] = {}
        self._readers: OrderedDict[Path, VideoReader] = OrderedDict()
        self._lock = threading.RLock()

    def index(self, path: Path) -> FrameIndex:
        """Return the frame index of a file, demuxing it the first time."""
        with self._lock:
            if path not in self._indices:
                self._indices[path] = index_frames(path)
            return self._indices[path]

    def frame(self, path: Path, number: int) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one frame of a file."""
        with self._lock:
            reader = self._readers.pop(path, None) or VideoReader(path, self.index(path))
            self._readers[path] = reader
            while len(self._readers) > self._max_open:
                self._readers.popitem(last=False)[1].close()
            return reader.frame(number)

    def frames(self, path: Path, start: int, stop: int) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Decode frames start..stop-1 in order, through an own decoder."""
        reader = VideoReader(path, self.index(path))
        try:
            for number in range(start, stop):
                yield reader.frame(number)
        finally:
            reader.close()

    def close(self) -> None:
        """Close all open files."""
        with self._lock:
            while self._readers:
                self._readers.popitem()[1].close()
