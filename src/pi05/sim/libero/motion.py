"""From where the hand is to where it shall be, as an action of LIBERO's OSC controller.

The controller adds 5 cm times the action to the present position at every step, so a constant full action moves the arm
at about 0.3 m/s; a proportional law on top of it settles without overshoot. An orientation is kept by the controller
itself while all three rotation numbers are exactly zero, so small errors get exact zeros: a policy cannot learn tiny
rotations, which quantile normalisation would scale up to the full range.

Metres, radians; actions in [-1, 1]: x, y, z, rotation about x, y, z in the world's frame, gripper (-1 open, 1 close).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

METRES, RADIANS = 0.05, 0.5
"""Of an action of 1."""
GAIN = 1.6
"""Actions per 5 cm of error; more makes the arm swing."""
TURN_GAIN = 1.2
TURN_TOLERANCE = np.deg2rad(3.0)
OPEN, CLOSE = -1.0, 1.0

Action = Float[np.ndarray, " 7"]
"""Any float type: an expert computes in float64 and hands out float32."""


def toward(
    error: Float[np.ndarray, " 3"],
    turn: float = 0.0,
    gripper: float = OPEN,
    fastest: float = 1.0,
    gain: float = GAIN,
) -> Action:
    """Return the action that reduces a position error, and a turn about the vertical that is still to go.

    `fastest` is the largest value of a direction, 1 at most; the direction of the error is kept. `gain` are actions per
    5 cm.
    """
    action = np.zeros(7)
    wanted = gain * np.asarray(error, dtype=float) / METRES
    action[:3] = wanted * min(1.0, fastest / max(float(np.abs(wanted).max()), 1e-9))
    if abs(turn) > TURN_TOLERANCE:
        action[5] = float(np.clip(TURN_GAIN * turn / RADIANS, -0.5, 0.5))
    action[6] = gripper
    return action


def still(gripper: float) -> Action:
    """Return the action that moves nothing but the fingers."""
    return toward(np.zeros(3), gripper=gripper)


def turn_between(start: Float[np.ndarray, " 2"], end: Float[np.ndarray, " 2"]) -> float:
    """Return the angle in the plane from one direction of closing fingers to another, which may be its opposite.

    In [-pi/2, pi/2]: a hand that is turned by half a circle is the same hand.
    """
    angle = float(np.arctan2(start[0] * end[1] - start[1] * end[0], start @ end))
    if angle > np.pi / 2:
        return angle - np.pi
    return angle + np.pi if angle < -np.pi / 2 else angle
