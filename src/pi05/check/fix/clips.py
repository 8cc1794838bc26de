"""Are an episode's pictures there, frame for row? By the packets of its video files; nothing is decoded.

Pictures and numbers are matched by number, so an episode whose video has lost frames cannot be mended: which ones are
lost is not known. Frames beyond the rows are left as they are, and told.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pi05.data.lerobot.files import defect
from pi05.data.lerobot.index_columns import clock_fault
from pi05.data.lerobot.layout import DatasetLayout, EpisodeFiles
from pi05.data.lerobot.video import FrameIndex, VideoFault, index_frames


@dataclass
class ClipLooks:
    """The video files of a data set, each demuxed once."""

    layout: DatasetLayout
    _known: dict[Path, FrameIndex | str] = field(default_factory=dict)

    def frames(self, path: Path) -> FrameIndex | str:
        """Return when the frames of a file are shown, or why it cannot be read."""
        if path not in self._known:
            found = defect(path)
            try:
                self._known[path] = index_frames(path) if found is None else found
            except VideoFault as fault:
                self._known[path] = f"{fault.problem}: {fault.found}"
        return self._known[path]

    def fault(self, camera: str, episode: EpisodeFiles, count: int) -> str | None:
        """Return why a camera's pictures cannot be those of an episode's `count` rows, or None."""
        clip = episode.clips.get(camera)
        if clip is None:
            return f"camera {camera}: no video is listed"
        index = self.frames(clip.path)
        if isinstance(index, str):
            return f"camera {camera}: {index}"
        first = 0 if clip.start_seconds is None else index.nearest(clip.start_seconds)
        if clip.start_seconds is not None and abs(index.seconds[first] - clip.start_seconds) > 0.25 / self.layout.fps:
            return f"camera {camera}: no frame at {clip.start_seconds:.4f} s, where the episode should begin"
        there = self._end(camera, episode, len(index)) - first
        if there < count:
            return f"camera {camera}: {there} pictures for {count} rows"
        off = clock_fault(index.seconds[first : first + count], self.layout.fps)
        return None if off is None else f"camera {camera}: the video's own clock is off ({off[2]})"

    def surplus(self, camera: str, episode: EpisodeFiles, count: int) -> int:
        """Return how many frames a video that holds one episode has beyond its rows; 0 where episodes share files.

        There the list says where each episode begins.
        """
        clip = episode.clips[camera]
        index = self.frames(clip.path)
        return 0 if clip.start_seconds is not None or isinstance(index, str) else len(index) - count

    def _end(self, camera: str, episode: EpisodeFiles, frames: int) -> int:
        """Return the frame at which the next episode of the same file begins, or the file's end."""
        own = episode.clips[camera]
        begins = self._begins[camera, own.path]
        after = bisect_right(begins, own.start_seconds or 0.0)
        return frames if after == len(begins) else min(frames, round(begins[after] * self.layout.fps))

    @cached_property
    def _begins(self) -> dict[tuple[str, Path], list[float]]:
        """When the episodes of each video file begin, in order."""
        begins: dict[tuple[str, Path], list[float]] = {}
        for episode in self.layout.episodes:
            for camera, clip in episode.clips.items():
                begins.setdefault((camera, clip.path), []).append(clip.start_seconds or 0.0)
        return {key: sorted(times) for key, times in begins.items()}
