"""What an episode looked like, and which episodes a report shows. Leaves out drawing (`pages/pictures.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from pi05.eval.episode import EpisodeResult, Outcome


@dataclass(frozen=True)
class Film:
    """One episode and what it looked like; `stride` steps of the simulator lie between two frames."""

    episode: EpisodeResult
    frames: Sequence[UInt8[np.ndarray, "height width 3"]]
    stride: int


@dataclass
class Gallery:
    """The films of the first episodes of each outcome and task, whatever the order in which they end.

    `limit` films of each outcome are spread over `tasks` tasks, of each at least one; none with a limit of 0.
    """

    limit: int
    tasks: int = 1
    films: dict[int, Film] = field(default_factory=dict)

    @property
    def per_task(self) -> int:
        """Films kept of each outcome of a task."""
        return -(-self.limit // max(1, self.tasks))

    def offer(self, film: Film) -> bool:
        """Keep the film if its episode is among the first of its kind; return whether it is."""
        if not film.frames:
            return False
        self.films[film.episode.index] = film
        kind = (film.episode.outcome, film.episode.task)
        same = sorted(i for i, f in self.films.items() if (f.episode.outcome, f.episode.task) == kind)
        for index in same[self.per_task :]:
            del self.films[index]
        return film.episode.index in self.films

    def of(self, outcome: Outcome) -> list[Film]:
        """Return the films of one outcome, first episode first."""
        return [film for _, film in sorted(self.films.items()) if film.episode.outcome == outcome]
