"""What goes wrong between an expert and the arm while demonstrations are collected; the labels stay what it wanted.

A policy that drifts must have seen where it then is, and one that misses its grasp must have seen a missed grasp. So
commands are shifted at random, the arm is pushed off for a fraction of a second now and then, and in some episodes the
fingers close too early, a few centimetres above the thing: what the expert does next is in the data. Rotations are left
alone, so that those of the labels stay exactly zero where nothing has to turn.

Measured for one task of libero_object: without missed grasps in the data a missed grasp was fatal (7 of 20 episodes),
with them 19 of 20 succeeded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi05.sim.episodes import shift_half
from pi05.sim.libero.motion import CLOSE, OPEN, Action

SHIFTS = (0.12, 0.12, 0.12, 0.0, 0.0, 0.0, 0.0)
"""Of every second command, in actions: 0.12 is 6 mm."""
PUSHES_PER_EPISODE = 1.5
PUSH = 0.6
"""Standard deviation of a push in each direction, in actions, for its whole length."""
PUSH_STEPS = (4, 9)
LATEST_PUSH = 100
MISSED_GRASPS = 0.35
"""Share of episodes in which the first grasp is missed."""
MISS_HEIGHT = (0.02, 0.04)
"""How far above the grasp (m) the fingers close then."""
MISS_STEPS = 8


@dataclass(frozen=True)
class Push:
    """From which step to before which, and where to (actions)."""

    start: int
    end: int
    shift: tuple[float, float, float]


class Mishaps:
    """Those of one episode, all drawn at its first step."""

    def __init__(self, hold: int = 1) -> None:
        """`hold`: control steps for which an action is held; lengths here are in control steps."""
        self._hold = hold
        self._step = 0
        self._pushes: list[Push] | None = None
        self._miss_at: float | None = None
        self._missing = 0

    def disturb(self, action: Action, above_grasp: float | None, generator: np.random.Generator) -> Action:
        """Return what the arm gets instead of `action`, within [-1, 1].

        `above_grasp` is how far (m) the hand is above its grasp while it goes down to it; None at any other time.
        """
        if self._pushes is None:
            self._pushes = _draw_pushes(generator)
            height = float(generator.uniform(*MISS_HEIGHT))
            self._miss_at = height if generator.random() < MISSED_GRASPS else None
        executed = shift_half(action, SHIFTS, generator)
        for push in self._pushes:
            if push.start <= self._step < push.end:
                executed[:3] += push.shift
        self._step += self._hold
        if self._miss_at is not None and above_grasp is not None and action[6] == OPEN and above_grasp < self._miss_at:
            self._miss_at, self._missing = None, MISS_STEPS
        if self._missing > 0:
            self._missing -= self._hold
            executed[:6], executed[6] = 0.0, CLOSE
        return np.clip(executed, -1.0, 1.0)


def _draw_pushes(generator: np.random.Generator) -> list[Push]:
    pushes = []
    for _ in range(int(generator.poisson(PUSHES_PER_EPISODE))):
        start = int(generator.integers(LATEST_PUSH))
        x, y, z = generator.normal(0.0, PUSH, 3)
        pushes.append(Push(start, start + int(generator.integers(*PUSH_STEPS)), (float(x), float(y), float(z))))
    return pushes
