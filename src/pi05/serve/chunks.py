"""Which action of which chunk a robot executes at a step. No torch, no connection: `client.py` has that.

`sync` executes `n_action_steps` of a chunk and then waits for the next one. `aligned` asks for the next chunk while the
old one is executed; when it arrives, the actions for steps that have passed meanwhile are skipped, so that action k of
a chunk is always executed k steps after its observation.

A chunk that continues the one before it takes over at the step that its server was told, not as soon as it is there:
until then both hold the same actions, up to what guidance lacks.

    asked                 there      takes over
      ├── the old chunk's ──┼───────────┤── the new one's ──►
      ├───────────── delay ─────────────┤
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

import numpy as np

Mode = Literal["sync", "aligned"]
REMEMBERED = 10
"""Delays that the next one is forecast from: the longest of them (arXiv 2506.07339, algorithm 1)."""


class ChunkPlayer:
    """The chunk in execution, on the robot's own count of control steps."""

    def __init__(self, n_action_steps: int) -> None:
        """`n_action_steps`: how many actions of a chunk are executed before a newer one is wanted."""
        self.n_action_steps = n_action_steps
        self.step = 0
        """Control steps so far: the number of the observation at hand."""
        self._chunk: np.ndarray | None = None
        self._origin = 0
        self._next: tuple[np.ndarray, int, int] | None = None
        """A chunk that is there, its origin, and the step at which it takes over."""

    def reset(self) -> None:
        """Begin another episode; the count goes on, so that no answer to the old one can fit."""
        self._chunk = self._next = None

    @property
    def origin(self) -> int | None:
        """The step of the observation that the chunk in execution is for; None without one."""
        return None if self._chunk is None else self._origin

    @property
    def wants_chunk(self) -> bool:
        """Whether as many actions as planned are executed, or there is no chunk."""
        if self._next is not None:
            return False
        return self._chunk is None or self.step - self._origin >= min(self.n_action_steps, len(self._chunk))

    @property
    def left(self) -> int:
        """Actions that are left in the chunk."""
        return 0 if self._chunk is None else max(0, len(self._chunk) - (self.step - self._origin))

    def take(self, actions: np.ndarray, origin: int, delay: int = 0) -> bool:
        """Take the chunk for the observation of step `origin`; tell whether it is of use.

        It takes over `delay` steps after its observation, or at once where these have passed. It is of none when it is
        not newer than the chunk in execution, or all its actions are for steps that have passed.
        """
        if origin > self.step or origin + len(actions) <= self.step:
            return False
        newest = self._origin if self._next is None else self._next[1]
        if self._chunk is not None and origin <= newest:
            return False
        if self._chunk is not None and self.step < origin + delay <= self.step + self.left:
            self._next = actions, origin, origin + delay
        else:
            self._chunk, self._origin, self._next = actions, origin, None
        return True

    def next(self) -> np.ndarray | None:
        """Return the action for this step and count it; None when there is none."""
        if self.left == 0 or self._chunk is None:
            return None
        action = self._chunk[self.step - self._origin]
        self.step += 1
        if self._next is not None and self.step >= self._next[2]:
            (self._chunk, self._origin, _), self._next = self._next, None
        return action


class Delays:
    """How many control steps pass from an observation to its chunk, measured, and forecast for the next one."""

    def __init__(self, rate_hz: float, first_s: float) -> None:
        """`first_s`: what the first answer is expected to take, in seconds."""
        self._rate = rate_hz
        self._steps: deque[int] = deque([self.steps(first_s)], maxlen=REMEMBERED)

    def steps(self, seconds: float) -> int:
        """Return a time in control steps, rounded up."""
        return math.ceil(seconds * self._rate)

    def note(self, steps: int) -> None:
        """Remember what one answer took."""
        self._steps.append(steps)

    @property
    def forecast(self) -> int:
        """The longest of the last ten."""
        return max(self._steps)
