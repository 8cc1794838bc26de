"""What an episode looked like, and which episodes a report shows. Leaves out drawing (`pages/pictures.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

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
