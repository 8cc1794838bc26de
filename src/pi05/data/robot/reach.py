"""How far a state may lie from those of the training data before it is worth a word, and before it is surely wrong.

The lowest and highest values of a few demonstrations are not the robot's: on sound sets of four training episodes the
fifth leaves them by up to 0.7 of their range, with twelve short ones by 0.3. So the reach shrinks with the number of
training frames, from the whole range for a thousand to a tenth of it for very many. A joint that hardly moves is given
a part of its own size instead. Other units (degrees for radians) lie tens of ranges away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pi05.data.statistics import DimStats

REACH = 0.1
"""Share of the range by which a state may leave it, however many frames there are."""
FEW_FRAMES = 30.0
"""Over the root of the number of training frames, at most the whole range: how much wider the reach of few is."""
OWN_SIZE = 0.1
"""Share of a value's size that counts as range where the range is smaller: a joint that was held still."""
FAR = 2.0
"""Ranges or sizes, whichever is larger, beyond which a state is that of other units or of another robot."""
SMALLEST = 1e-6


@dataclass(frozen=True, eq=False)
class Reach:
    """The range of each dimension of the training states, and how far beyond it a state may lie."""

    low: Float[np.ndarray, " S"]
    high: Float[np.ndarray, " S"]
    slack: Float[np.ndarray, " S"]
    """Beyond the range by more: the training data hold nothing like it."""
    far: Float[np.ndarray, " S"]
    """Beyond the range by more: it cannot be the same quantity."""

    def outside(self, state: Float[np.ndarray, " S"]) -> Bool[np.ndarray, " S"]:
        """Return which dimensions are beyond the reach; NaN is."""
        return ~((state >= self.low - self.slack) & (state <= self.high + self.slack))

    def surely_wrong(self, state: Float[np.ndarray, " S"]) -> Bool[np.ndarray, " S"]:
        """Return which dimensions are so far outside that units, calibration or robot must be others."""
        inside = (state >= self.low - self.far) & (state <= self.high + self.far)
        return self.outside(state) & ~inside


def reach_of(stats: DimStats) -> Reach | None:
    """Return the reach of states with these statistics; None where they do not tell a range."""
    known = stats.range
    if known is None:
        return None
    low, high = known
    size = np.maximum(np.abs(low), np.abs(high))
    width = np.maximum(high - low, SMALLEST)
    share = REACH + (min(1.0, FEW_FRAMES / math.sqrt(stats.count)) if stats.count else 0.0)
    return Reach(
        low=low,
        high=high,
        slack=share * np.maximum(width, OWN_SIZE * size),
        far=FAR * np.maximum(width, size),
    )
