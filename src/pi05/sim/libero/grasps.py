"""Where and how a two-finger hand takes a thing from above, by the points of it and of what stands around it.

A grasp is a place of the hand, a turn about the vertical, and nothing else: the fingers point down. What lies between
the fingers may be the whole thing or one wall of it, so a bowl is taken by its rim. The smallest turn that has a free
grasp is taken, since a hand that need not turn has rotation commands of exactly zero, which a policy can learn.

Lengths in metres, angles in radians. Sizes are those of the Panda hand in robosuite 1.4, measured in its model around
the `grip_site` that LIBERO reports as the end effector's position.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pi05.sim.libero.shapes import Points

HALF_OPENING = 0.038
"""From the middle to the inner face of an open finger."""
FINGER_REACH = 0.068
"""From the middle to the outer face of an open finger."""
FINGER_HALF_WIDTH = 0.013
FINGER_BELOW = 0.012
"""How far the fingertips reach below the end effector's position."""
PAD_HALF_HEIGHT = 0.009
HAND_HALF_LENGTH = 0.105
HAND_HALF_WIDTH = 0.035
HAND_ABOVE = 0.028
"""From the end effector's position up to the underside of the hand, which is 21 cm long."""
WIDEST = 0.066
"""Of what the fingers can close on."""
DEPTHS = (0.026, 0.018, 0.010)
"""How far below the top of a thing it is taken, the surest first."""
TURNS = tuple(np.deg2rad((0, 15, -15, 30, -30, 45, -45, 60, -60, 75, -75, 90)))
ROOM = 0.008
"""Free space wanted around fingers and hand."""
STEP = 0.008
GAP = 0.015
"""Space between two walls that a finger would notice."""
SLANT = 0.007
"""By how much the sides may run apart over half a pad: more is an edge or a corner, which slips out."""


@dataclass(frozen=True)
class Grasp:
    """Where the end effector goes, and by how much the hand turns from where it was when the grasp was chosen."""

    x: float
    y: float
    z: float
    turn: float
    cost: float

    @property
    def place(self) -> Float[np.ndarray, " 2"]:
        """Where in the plane."""
        return np.array([self.x, self.y])


def choose_grasp(
    thing: Points, others: Points, closing: Float[np.ndarray, " 2"], ground: float, avoid: list[Grasp] | None = None
) -> Grasp | None:
    """Return the best grasp of the smallest turn that has one; None where the hand fits nowhere.

    `closing` is the unit vector in the plane along which the fingers close now, `ground` the height of the table.
    Grasps of `avoid`, which have failed, cost more.
    """
    middle = thing[:, :2].mean(axis=0)
    reach = 0.5 * float(np.ptp(thing[:, :2], axis=0).max()) + HAND_HALF_LENGTH + 0.05
    around = others[np.linalg.norm(others[:, :2] - middle, axis=1) < reach]
    for room in (ROOM, 0.0):
        for size in sorted({abs(turn) for turn in TURNS}):
            found = [
                grasp
                for turn in TURNS
                if abs(turn) == size
                for grasp in _grasps(thing, around, closing, turn, ground, room)
            ]
            if found:
                return min(found, key=lambda grasp: grasp.cost + _failed_before(grasp, avoid or []))
    return None


def _failed_before(grasp: Grasp, failed: list[Grasp]) -> float:
    return sum(0.03 for other in failed if np.hypot(grasp.x - other.x, grasp.y - other.y) < 0.02)


def _grasps(
    thing: Points, around: Points, closing: Float[np.ndarray, " 2"], turn: float, ground: float, room: float
) -> Iterator[Grasp]:
    """Yield the free grasps of one turn. `a` runs along the closing fingers, `b` along their width."""
    cosine, sine = np.cos(turn), np.sin(turn)
    along = np.array([cosine * closing[0] - sine * closing[1], sine * closing[0] + cosine * closing[1]])
    axes = np.stack([along, np.array([-along[1], along[0]])])
    own = np.column_stack([thing[:, :2] @ axes.T, thing[:, 2]])
    rest = np.column_stack([around[:, :2] @ axes.T, around[:, 2]])
    middle = own[:, :2].mean(axis=0)
    top = float(own[:, 2].max())
    heights = sorted({max(top - depth, ground + FINGER_BELOW + 0.002) for depth in DEPTHS})
    low, high = own[:, 1].min(), own[:, 1].max()
    for z in heights:
        layer = own[np.abs(own[:, 2] - z) <= PAD_HALF_HEIGHT]
        for b in middle[1] + STEP * np.arange(np.ceil((low - middle[1]) / STEP), (high - middle[1]) / STEP + 1):
            slab = layer[np.abs(layer[:, 1] - b) <= PAD_HALF_HEIGHT]
            for left, right in _spans(np.sort(slab[:, 0])):
                a = 0.5 * (left + right)
                taken = _is_flat(slab, left, right, b)
                if taken and not (_collides(own, a, b, z, room) or _blocked(rest, a, b, z, room)):
                    away = float(np.hypot(a - middle[0], b - middle[1]))
                    x, y = np.array([a, b]) @ axes
                    cost = away + 0.3 * max(0.0, right - left - 0.05) + 0.5 * (z - heights[0])
                    yield Grasp(float(x), float(y), float(z), float(turn), cost)


def _spans(places: Float[np.ndarray, " n"]) -> Iterator[tuple[float, float]]:
    """Yield what the fingers may close on: each wall by itself, and neighbouring walls together, if not too wide."""
    if len(places) == 0:
        return
    cuts = np.flatnonzero(np.diff(places) > GAP)
    starts, ends = [0, *(cuts + 1)], [*cuts, len(places) - 1]
    for first in range(len(starts)):
        for last in range(first, len(ends)):
            if places[ends[last]] - places[starts[first]] <= WIDEST:
                yield float(places[starts[first]]), float(places[ends[last]])


def _is_flat(slab: Points, left: float, right: float, b: float) -> bool:
    """Tell whether both pads lie on a side of what is between them, not on a corner."""
    taken = slab[(slab[:, 0] >= left) & (slab[:, 0] <= right)]
    halves = taken[taken[:, 1] <= b, 0], taken[taken[:, 1] >= b, 0]
    if not all(map(len, halves)):
        return False
    return all(abs(side(halves[0]) - side(halves[1])) <= SLANT for side in (np.min, np.max))


def _in_hand(points: Points, a: float, b: float, z: float, room: float) -> Bool[np.ndarray, " n"]:
    """Tell which points the hand itself would hit on its way down."""
    inside = (np.abs(points[:, 0] - a) < HAND_HALF_LENGTH + room) & (np.abs(points[:, 1] - b) < HAND_HALF_WIDTH + room)
    return inside & (points[:, 2] > z + HAND_ABOVE - 0.5 * room)


def _in_fingers(points: Points, a: float, b: float, z: float, room: float) -> Bool[np.ndarray, " n"]:
    """Tell which points the open fingers would hit on their way down."""
    away = np.abs(points[:, 0] - a)
    inside = (away > HALF_OPENING - 0.5 * room) & (away < FINGER_REACH + room)
    return inside & (np.abs(points[:, 1] - b) < FINGER_HALF_WIDTH + room) & (points[:, 2] > z - FINGER_BELOW - room)


def _collides(own: Points, a: float, b: float, z: float, room: float) -> bool:
    return bool((_in_hand(own, a, b, z, 0.0) | _in_fingers(own, a, b, z, min(room, 0.004))).any())


def _blocked(rest: Points, a: float, b: float, z: float, room: float) -> bool:
    """Tell whether other things are in the way of hand or fingers, or would be taken as well."""
    between = (
        (np.abs(rest[:, 0] - a) < HALF_OPENING)
        & (np.abs(rest[:, 1] - b) < FINGER_HALF_WIDTH)
        & (rest[:, 2] > z - FINGER_BELOW)
    )
    return bool((_in_hand(rest, a, b, z, room) | _in_fingers(rest, a, b, z, room) | between).any())
