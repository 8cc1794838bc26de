"""Episodes in video files: which frames of a file are an episode's, checked before the first of them is used.

Frames are matched by number. In v3.0 several episodes share a file, and the metadata's start time gives the first
frame; in v2.x a file is one episode. Every problem names camera, episode and file.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pi05.data.lerobot.files import DOWNLOAD_AGAIN, dropping, excluding
from pi05.data.lerobot.index_columns import clock_fault
from pi05.data.lerobot.layout import Clip, EpisodeFiles
from pi05.data.lerobot.video import VideoCache, VideoFault, promised_frames
from pi05.errors import DataError

MOST_HEADERS = 200
"""Files of one camera that are opened only to be noted: 5 ms each, on a disk of the machine's own."""


@dataclass(frozen=True)
class ClipCount:
    """How many frames one episode's stretch of a video holds."""

    episode: int
    path: Path
    frames: int
    """Up to the next episode's stretch, or to the end of the file."""
    rows: int
    """Frames of the episode."""
    is_last: bool
    """Whether it ends the file."""


class Clips:
    """The videos of a data set, by camera and episode."""

    def __init__(
        self,
        fps: float,
        *,
        late: Container[int] = (),
        check_clocks: bool = True,
        last: Container[tuple[str, int]] = (),
        notes: list[str] | None = None,
    ) -> None:
        """`late` are the episodes whose own clock does not start at 0; `last` (camera, episode), those that end a file.

        What is odd about a video and changes nothing is added to `notes` when the video is first used.
        """
        self._last, self._notes = last, [] if notes is None else notes
        self._noted: set[tuple[str, int]] = set()
        self._fps, self._late, self._check_clocks = fps, late, check_clocks
        self._videos = VideoCache()
        self._first_frames: dict[tuple[str, int], int] = {}

    def frame(self, camera: str, files: EpisodeFiles, number: int) -> UInt8[np.ndarray, "height width 3"]:
        """Decode frame `number` of an episode."""
        with _naming(camera, files):
            return self._videos.frame(files.clips[camera].path, self._first_frame(camera, files) + number)

    def frames(self, camera: str, files: EpisodeFiles) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Decode an episode from its first frame to its last."""
        with _naming(camera, files):
            first = self._first_frame(camera, files)
            yield from self._videos.frames(files.clips[camera].path, first, first + files.length)

    def counts(self, camera: str, episodes: Sequence[EpisodeFiles]) -> Iterator[ClipCount]:
        """Yield for each episode how many frames its stretch of video holds, by headers and start times alone.

        Of a file whose header does not tell, the last stretch is left out.
        """
        follower: dict[Path, EpisodeFiles] = {}
        for files in reversed([files for files in episodes if camera in files.clips]):
            clip = files.clips[camera]
            after = follower.get(clip.path)
            first = self._start(clip)
            with _naming(camera, files):
                end = promised_frames(clip.path) if after is None else self._start(after.clips[camera])
            if end:
                yield ClipCount(files.index, clip.path, end - first, files.length, is_last=after is None)
            follower[clip.path] = files

    def _start(self, clip: Clip) -> int:
        return 0 if clip.start_seconds is None else round(clip.start_seconds * self._fps)

    def look_at_headers(self, camera: str, episodes: Sequence[EpisodeFiles]) -> None:
        """Note now, by their headers, which videos are longer than their rows.

        Of many files none is opened: that would take minutes, and they are noted when they are decoded.
        """
        ends = [files for files in episodes if camera in files.clips and (camera, files.index) in self._last]
        for files in ends if len(ends) <= MOST_HEADERS else ():
            clip = files.clips[camera]
            with _naming(camera, files):
                self._note_surplus(camera, files, promised_frames(clip.path) - self._start(clip) - files.length)

    def _note_surplus(self, camera: str, files: EpisodeFiles, surplus: int) -> None:
        place = (camera, files.index)
        if surplus > 0 and place in self._last and place not in self._noted:
            self._noted.add(place)
            self._notes.append(
                f"the video of camera {camera} has {surplus} frames more than episode {files.index} has rows; they are "
                f"taken to come after its end: {files.clips[camera].path}. Were they filmed before it began, every "
                f"picture would be {surplus} frames late"
            )

    def _first_frame(self, camera: str, files: EpisodeFiles) -> int:
        """Return the number, in its file, of an episode's first frame."""
        key = (camera, files.index)
        if key not in self._first_frames:
            self._first_frames[key] = self._find_first_frame(camera, files)
        return self._first_frames[key]

    def _find_first_frame(self, camera: str, files: EpisodeFiles) -> int:
        clip = files.clips[camera]
        index = self._videos.index(clip.path)
        times, first = index.seconds, 0
        if clip.start_seconds is not None:
            first = index.nearest(clip.start_seconds)
            if abs(times[first] - clip.start_seconds) > 0.25 / self._fps:
                raise VideoFault(
                    "the video has no frame where the episode should begin",
                    wanted=f"a frame at {clip.start_seconds:.4f} s",
                    found=f"the nearest at {times[first]:.4f} s, of {len(index)} frames",
                )
        length = len(index) - first
        # A clock that starts late says that frames are missing at the start; only an equal count tells that none are.
        surplus = clip.start_seconds is None and files.index in self._late and length != files.length
        if length < files.length or surplus:
            raise VideoFault(
                "the video and the data file have different numbers of frames",
                wanted=f"{files.length} frames from frame {first} on",
                found=f"{length} frames",
            )
        self._note_surplus(camera, files, length - files.length)
        fault = clock_fault(times[first : first + files.length], self._fps)
        if fault is not None and self._check_clocks:
            raise VideoFault(
                "the video's clock disagrees with the frame rate of meta/info.json (--allow='[timestamps]' goes on)",
                wanted=fault[1],
                found=f"{fault[2]}, at frame {fault[0]}",
            )
        return first


@contextmanager
def _naming(camera: str, files: EpisodeFiles) -> Iterator[None]:
    """Turn a VideoFault into a DataError that names camera, episode and file."""
    try:
        yield
    except VideoFault as fault:
        again = f"{DOWNLOAD_AGAIN}; if it is broken at its source, too, train without it: {excluding(files.index)}"
        without = f"or leave the camera out: {dropping(camera)}"
        raise DataError(
            f"{fault.problem} (camera {camera}, episode {files.index}): {files.clips[camera].path}",
            wanted=fault.wanted,
            found=fault.found,
            remedy=again if fault.remedy is None else f"{fault.remedy}, {without}",
            topic="video",
            episodes=[files.index],
        ) from fault
