"""Frames of an episode as pictures inside an HTML page: a strip of stills and a moving clip.

Leaves out the choice of episodes, which is `Gallery`'s caller's by its limit. Everything becomes a `data:` address, so
that a report stays one file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pi05.eval.episode import EpisodeResult, Outcome

FRAMES_PER_FILM = 60
"""Frames kept of one episode at most, besides the last one."""
FRAME_SIZE_PX = 96
"""Side of a frame; pages enlarge it."""


@dataclass(frozen=True)
class Film:
    """One episode and what it looked like; `stride` steps of the simulator lie between two frames."""

    episode: EpisodeResult
    frames: Sequence[UInt8[np.ndarray, "height width 3"]]
    stride: int


@dataclass
class Gallery:
    """The films of the first `limit` episodes of each outcome, whatever the order in which they end."""

    limit: int
    films: dict[int, Film] = field(default_factory=dict)

    def offer(self, film: Film) -> None:
        """Keep the film if its episode is among the first of its outcome."""
        if not film.frames:
            return
        self.films[film.episode.index] = film
        same = sorted(i for i, f in self.films.items() if f.episode.outcome == film.episode.outcome)
        for index in same[self.limit :]:
            del self.films[index]

    def of(self, outcome: Outcome) -> list[Film]:
        """Return the films of one outcome, first episode first."""
        return [film for _, film in sorted(self.films.items()) if film.episode.outcome == outcome]


def still(frame: UInt8[np.ndarray, "height width 3"]) -> str:
    """Return one picture as a lossless `data:` address."""
    return _address(Image.fromarray(frame), "png", optimize=True)


def strip(frames: Sequence[UInt8[np.ndarray, "height width 3"]], count: int = 7) -> list[str]:
    """Return up to `count` frames, evenly spaced from the first to the last, as `data:` addresses."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    return [_address(Image.fromarray(frames[i]), "webp", quality=80) for i in chosen]


def clip(frames: Sequence[UInt8[np.ndarray, "height width 3"]], frame_ms: int) -> str:
    """Return the frames as an endless moving picture that rests on its last frame for a second."""
    pictures = [Image.fromarray(frame) for frame in frames]
    durations = [frame_ms] * (len(pictures) - 1) + [1000]
    return _address(
        pictures[0], "webp", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=70, method=3
    )


def _address(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
