"""From predicted chunks to errors: of whole chunks and of what is carried out, by episode, task and time; in pairs.

All in standard deviations of the reference actions unless said otherwise. Numbers only; nothing is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from pi05.data.measures.chunk_error import ChunkError, in_deviations, measure_chunks
from pi05.eval.open_loop.looks import Looks

PARTS_OF_TIME = 10
"""Equal parts of an episode, from its first to its last frame."""
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
T_95_MORE = {20: 2.131, 30: 2.086, 60: 2.042, 120: 2.000}
"""Student's t, two-sided 95 %, for 1 to 15 degrees of freedom, and for as many or more: rounded to the safe side."""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How far one way to choose chunks is from the demonstrator's."""

    whole: ChunkError
    """Over all steps of the chunks."""
    executed: ChunkError
    """Over the steps that are carried out."""
    by_episode: Mapping[int, float]
    """Over whole chunks."""
    by_task: Mapping[str, float]
    """Over whole chunks."""
    by_time: tuple[float, ...]
    """Over the carried-out steps of each part of the episodes; NaN for a part without one."""
    spread: float | None = None
    """Standard deviation among the draws; None without several."""


def measure(
    chunks: Float[np.ndarray, "D L A n"],
    looks: Looks,
    scale: Float[np.ndarray, " n"],
    lengths: Mapping[int, int],
    tasks: Mapping[int, str],
) -> Errors:
    """Measure chunks, drawn once or several times. `lengths` and `tasks` are those of the episodes."""
    draws = len(chunks)

    def of(places: np.ndarray | slice, valid: Bool[np.ndarray, "l A"]) -> ChunkError:
        own = chunks[:, places].reshape(-1, *chunks.shape[2:])
        repeated = [np.concatenate([part] * draws) for part in (looks.actions[places], valid)]
        return measure_chunks(own, repeated[0], repeated[1], scale)

    everything = slice(None)
    groups: dict[str, list[np.ndarray]] = {}
    for episode, task in tasks.items():
        groups.setdefault(task, []).append(looks.of(episode))
    by_task = {task: of(p, looks.valid[p]).score for task, parts in groups.items() for p in [np.concatenate(parts)]}
    return Errors(
        whole=of(everything, looks.valid),
        executed=of(everything, looks.executed),
        by_episode={episode: of(p, looks.valid[p]).score for episode in lengths for p in [looks.of(episode)]},
        by_task=by_task,
        by_time=_by_time(chunks, looks, scale, lengths),
        spread=_spread(chunks, looks, scale) if draws > 1 else None,
    )


def _by_time(
    chunks: Float[np.ndarray, "D L A n"], looks: Looks, scale: Float[np.ndarray, " n"], lengths: Mapping[int, int]
) -> tuple[float, ...]:
    horizon = chunks.shape[2]
    steps = looks.steps[:, None] + np.arange(horizon)
    last = np.array([max(1, lengths[int(episode)] - 1) for episode in looks.episodes])[:, None]
    part = np.minimum(steps * PARTS_OF_TIME // (last + 1), PARTS_OF_TIME - 1)
    squares = np.square(chunks.astype(np.float64) - looks.actions).mean(axis=0)
    found = []
    for number in range(PARTS_OF_TIME):
        own = squares[looks.executed & (part == number)]
        found.append(float(in_deviations(np.sqrt(own.mean(axis=0)), scale)) if len(own) else math.nan)
    return tuple(found)


def _spread(chunks: Float[np.ndarray, "D L A n"], looks: Looks, scale: Float[np.ndarray, " n"]) -> float:
    variance = chunks.astype(np.float64).var(axis=0, ddof=1)
    return float(in_deviations(np.sqrt(variance[looks.valid].mean(axis=0)), scale))


def stitched(
    chunks: Float32[np.ndarray, "L A n"], looks: Looks, episode: int
) -> tuple[Int64[np.ndarray, " T"], Float32[np.ndarray, "T n"]]:
    """Return what is carried out in an episode, step by step: frames since its first one, and actions."""
    places = looks.of(episode)
    mask = looks.executed[places]
    steps = looks.steps[places][:, None] + np.arange(chunks.shape[1])
    return steps[mask], chunks[places][mask]


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The error of one policy less that of another, episode by episode."""

    a: str
    b: str
    episodes: int
    mean: float
    """Mean over episodes of B's error less A's: below zero, B is better."""
    interval: tuple[float, float] | None
    """95 %, by Student's t over episodes; None with fewer than two."""
    b_better: int
    """Episodes in which B has the smaller error."""

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.interval is None:
            return "one episode settles nothing"
        low, high = self.interval
        if low <= 0 <= high:
            return "not settled by these episodes"
        return f"{self.b if high < 0 else self.a} is closer to the demonstrator"


def pair(a: str, b: str, first: Mapping[int, float], second: Mapping[int, float]) -> PairedDifference:
    """Compare two policies' errors by episode. Chunks of one episode resemble each other; episodes count."""
    differences = np.array([second[episode] - first[episode] for episode in first])
    mean, interval = float(differences.mean()), None
    if len(differences) > 1:
        reach = t_95(len(differences) - 1) * float(differences.std(ddof=1)) / math.sqrt(len(differences))
        interval = (mean - reach, mean + reach)
    better = int((differences < 0).sum())
    return PairedDifference(a=a, b=b, episodes=len(differences), mean=mean, interval=interval, b_better=better)


def t_95(freedom: int) -> float:
    """Return the two-sided 95 % quantile of Student's t, at most 3 % too large where it is not tabled."""
    if freedom <= len(T_95):
        return T_95[freedom - 1]
    return next((value for most, value in T_95_MORE.items() if freedom < most), 1.980)


def typical_episodes(by_episode: Mapping[int, float], most: int) -> Sequence[tuple[int, str]]:
    """Return the episodes to draw, with why: the one in the middle, the worst, the best; fewer where there are."""
    ranked = sorted(by_episode, key=lambda episode: by_episode[episode])
    wanted = [(ranked[(len(ranked) - 1) // 2], "typical"), (ranked[-1], "worst"), (ranked[0], "best")]
    found: dict[int, str] = {}
    for episode, why in wanted[:most]:
        found.setdefault(episode, why)
    return list(found.items())
