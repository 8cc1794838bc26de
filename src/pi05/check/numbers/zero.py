"""A joint that has another zero from one episode on: set up anew, calibrated anew, mounted anew between two sessions.

State and action move with it, so that nothing between the two tells (`units.py` judges what does). What tells is that
where the joint starts, its mean, its lowest and its highest place all move by the same amount from one episode to all
that follow. Other tasks move one of them or two, and another place to start from moves most of the joints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pi05.check.numbers.measure import Dimension, Measured
from pi05.check.structure import MOST_NAMED
from pi05.data.lerobot.files import excluding
from pi05.finding import Finding, warning

FEWEST_BESIDE = 3
"""Episodes before and after it."""
SURELY = 4.0
"""The difference of the two means, in its standard errors, in each of the four: sound sets reach 1.9, a joint that was
shifted by three quarters of what an episode moves it has 4.7."""
ALIKE = 0.6
"""The smallest of the four shifts over the largest."""
STEP = 0.6
"""Share of the shift that lies between the episodes right before and right after it, at the least: else the joint, or
where things were put, went there little by little."""
MOST_ALIKE = 0.99
"""Correlation of neighbouring episodes that is counted with, at the most."""
MOVES = 0.2
"""Share of the shift by which the joint moves within an episode, at the least: else it is only held at another place.
"""


@dataclass(frozen=True)
class Shift:
    """A joint's other zero."""

    name: str
    since: int
    """Place of the first episode that has it, among those used."""
    by: float
    surely: float


def judge_zero(measured: Measured) -> Iterator[Finding]:
    """Yield joints whose zero is another one from some episode on, unless most of the joints moved."""
    moving = [d for d in measured.of("state") if not d.is_constant and not d.is_switch]
    found = [shift for shift in map(_shift, moving) if shift is not None]
    if not found or len(found) > len(moving) / 2:
        return
    episodes = measured.signals.episodes
    first = min(found, key=lambda shift: -shift.surely)
    told = ", ".join(
        f"{shift.name} by {shift.by:.3g} from episode {episodes[shift.since]} on" for shift in found[:MOST_NAMED]
    )
    fewer = episodes[first.since :] if first.since >= len(episodes) / 2 else episodes[: first.since]
    yield warning(
        "numbers.zero",
        f"the zero of a joint moves between two episodes: {told}; where it starts, its mean and both ends of its range "
        "move alike, and the other joints do not",
        "learns two places for every movement, and meets one of them on the robot",
        f"compare the calibration of these recordings; correct the offset, or {excluding(*fewer[:50])}",
        {
            "shifts": {shift.name: shift.by for shift in found},
            "since": {shift.name: episodes[shift.since] for shift in found},
        },
    )


def _shift(dimension: Dimension) -> Shift | None:
    """Return where the dimension's episodes fall into two parts most surely, if they surely do."""
    places = np.stack([dimension.firsts, dimension.means, dimension.lows, dimension.highs])
    count = places.shape[1]
    if count < 2 * FEWEST_BESIDE:
        return None
    before = np.arange(FEWEST_BESIDE, count - FEWEST_BESIDE + 1)
    shifts, errors = _compare(places, before)
    sizes = np.abs(shifts)
    alike = (sizes.min(axis=0) >= ALIKE * sizes.max(axis=0)) & (np.abs(np.sign(shifts).sum(axis=0)) == len(places))
    moves = float(np.median(dimension.spans)) >= MOVES * sizes[1]
    steps = _steps(places, before) * np.sign(shifts)
    at_once = (steps >= STEP * sizes).all(axis=0)
    surely = np.where(alike & moves & at_once, (sizes / np.maximum(errors, 1e-12)).min(axis=0), 0.0)
    best = int(np.argmax(surely))
    if surely[best] < SURELY:
        return None
    return Shift(dimension.name, int(before[best]), float(shifts[1, best]), float(surely[best]))


def _steps(places: Float[np.ndarray, "4 E"], before: np.ndarray) -> Float[np.ndarray, "4 K"]:
    """Return the mean of a few episodes right after, minus that of as many right before."""
    few = FEWEST_BESIDE
    sums = np.cumsum(np.pad(places, ((0, 0), (1, 0))), axis=1)
    first, last = np.maximum(before - few, 0), np.minimum(before + few, places.shape[1])
    here = sums[:, before]
    return np.asarray((sums[:, last] - here) / (last - before) - (here - sums[:, first]) / (before - first))


def _compare(
    places: Float[np.ndarray, "4 E"], before: np.ndarray
) -> tuple[Float[np.ndarray, "4 K"], Float[np.ndarray, "4 K"]]:
    """Return mean after minus mean before, and its standard error, for each number of episodes before.

    Episodes that resemble those next to them (objects that are put a little further each time) count for fewer.
    """
    count = places.shape[1]
    centred = places - places.mean(axis=1, keepdims=True)
    sums, squares = np.cumsum(centred, axis=1), np.cumsum(centred**2, axis=1)
    first, whole = sums[:, before - 1], sums[:, -1:]
    after = count - before
    means = first / before, (whole - first) / after
    within = np.maximum(squares[:, -1:] - before * means[0] ** 2 - after * means[1] ** 2, 0)
    variance = within / (count - 2)
    alike = np.clip(_next_to_next(centred, before, means) / np.maximum(within, 1e-30), 0, MOST_ALIKE)
    fewer = (1 + alike) / (1 - alike)
    return means[1] - means[0], np.sqrt(variance * fewer * (1 / before + 1 / after))


def _next_to_next(
    centred: Float[np.ndarray, "4 E"], before: np.ndarray, means: tuple[Float[np.ndarray, "4 K"], ...]
) -> Float[np.ndarray, "4 K"]:
    """Return the sum over neighbours in one part of the product of what they differ from the part's mean."""
    products = np.cumsum(np.pad(centred[:, :-1] * centred[:, 1:], ((0, 0), (1, 0))), axis=1)
    sums = np.cumsum(np.pad(centred, ((0, 0), (1, 0))), axis=1)
    count = centred.shape[1]
    found = np.zeros_like(means[0])
    for mean, begin, end in (
        (means[0], np.zeros_like(before), before),
        (means[1], before, np.full_like(before, count)),
    ):
        pairs = end - begin - 1
        left, right = sums[:, end - 1] - sums[:, begin], sums[:, end] - sums[:, begin + 1]
        found += products[:, end - 1] - products[:, begin] - mean * (left + right) + pairs * mean**2
    return found
