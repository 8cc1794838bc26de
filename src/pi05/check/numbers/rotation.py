"""Angles that leap from one end of their circle to the other, as roll, pitch and yaw do at ±180°.

A leap is no movement: the mean of the two ends points the other way, and their difference is nearly a full turn.
"""

from __future__ import annotations

import math

import numpy as np

TURNS = (2 * math.pi, 360.0)
LEAP = 0.75
"""Share of a turn that a step takes from which on it is a leap."""
SLACK = 0.005
"""Share of a turn by which values may lie outside the circle: rounding, calibration."""


def wraps(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the frames to which a signal leaps around its circle; none where it is not bounded by one.

    `steps` are the sizes of the steps inside episodes. The circle is one of radians or degrees, from -half to half a
    turn or from 0 to a whole one.
    """
    low, high, largest = float(values.min()), float(values.max()), float(steps.max(initial=0))
    for turn in TURNS:
        slack = SLACK * turn
        centred = low >= -turn / 2 - slack and high <= turn / 2 + slack
        positive = low >= -slack and high <= turn + slack
        if (centred or positive) and LEAP * turn <= largest <= turn + 2 * slack:
            return np.flatnonzero(steps >= LEAP * turn) + 1
    return np.array([], np.int64)
