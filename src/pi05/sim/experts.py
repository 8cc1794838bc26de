"""Scripted demonstrators: they know where everything lies and act as the policy should.

An expert is a function of the present state only, so it recovers from disturbances; collected with small random
disturbances, its demonstrations show how to recover.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from pi05.sim.episodes import shift_half
from pi05.sim.tabletop import Tabletop
from pi05.sim.tabletop_tasks import SIDES

CLOSE_ENOUGH = 0.010
RELEASE_ENOUGH = 0.016


class TabletopExpert:
    """Solves a table-top goal: go over the item, close, carry, open."""

    disturbance = (0.02, 0.02, 0.0)
    """By how much a command is disturbed while demonstrations are collected, a standard deviation: m, m; the opening is
    left alone."""

    def __init__(self, env: Tabletop) -> None:
        self.env = env

    def reset(self) -> None:
        """Forget nothing: a function of the present state remembers nothing."""

    def act(self) -> Float32[np.ndarray, " 3"]:
        """Return the command for the present state: x, y (m), opening (0 … 1)."""
        env = self.env
        goal = env.goal
        if env.held is not None and env.held != goal.item:
            return self._command(float(env.position[0]), float(env.position[1]), opening=1.0)
        if env.held == goal.item:
            x, y = self.destination()
            arrived = np.hypot(x - env.position[0], y - env.position[1]) <= RELEASE_ENOUGH
            return self._command(x, y, opening=1.0 if arrived and not goal.holds else 0.0)
        item = env.items[goal.item]
        near = np.hypot(item.x - env.position[0], item.y - env.position[1]) <= CLOSE_ENOUGH
        return self._command(item.x, item.y, opening=0.0 if near and env.opening > 0.5 else 1.0)

    def disturb(self, action: Float32[np.ndarray, " 3"], generator: np.random.Generator) -> Float32[np.ndarray, " 3"]:
        """Shift half of the commands."""
        return shift_half(action, self.disturbance, generator)

    def destination(self) -> tuple[float, float]:
        """Return where the item shall go (m); where the gripper is, when it shall only be held."""
        goal, env = self.env.goal, self.env
        if goal.target is not None:
            return env.targets[goal.target].x, env.targets[goal.target].y
        if goal.side is not None:
            along = SIDES[goal.side]
            x, y = env.items[goal.item].x, env.items[goal.item].y
            return (0.2 * along[0] or x), (0.2 * along[1] or y)
        return float(env.position[0]), float(env.position[1])

    @staticmethod
    def _command(x: float, y: float, opening: float) -> Float32[np.ndarray, " 3"]:
        return np.array([x, y, opening], dtype=np.float32)
