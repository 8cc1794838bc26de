"""Which action of which chunk a robot executes at a step. No torch, no connection: `client.py` has that.

`sync` executes `n_action_steps` of a chunk and then waits for the next one. `aligned` asks for the next chunk while the
old one is executed; when it arrives, the actions for steps that have passed meanwhile are skipped, so that action k of
a chunk is always executed k steps after its observation.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Mode = Literal["sync", "aligned"]


class ChunkPlayer:
    """The chunk in execution, on the robot's own count of control steps."""

    def __init__(self, n_action_steps: int) -> None:
        """`n_action_steps`: how many actions of a chunk are executed before a newer one is wanted."""
        self.n_action_steps = n_action_steps
        self.step = 0
        """Control steps so far: the number of the observation at hand."""
        self._chunk: np.ndarray | None = None
        self._origin = 0

    def reset(self) -> None:
        """Begin another episode; the count goes on, so that no answer to the old one can fit."""
        self._chunk = None

    @property
    def wants_chunk(self) -> bool:
        """Whether as many actions as planned are executed, or there is no chunk."""
        return self._chunk is None or self.step - self._origin >= min(self.n_action_steps, len(self._chunk))

    @property
    def left(self) -> int:
        """Actions that are left in the chunk."""
        return 0 if self._chunk is None else max(0, len(self._chunk) - (self.step - self._origin))

    def take(self, actions: np.ndarray, origin: int) -> bool:
        """Take the chunk for the observation of step `origin`; tell whether it is of use.

        It is of none when it is not newer than the chunk in execution, or all its actions are for steps that have
        passed.
        """
        if origin > self.step or origin + len(actions) <= self.step:
            return False
        if self._chunk is not None and origin <= self._origin:
            return False
        self._chunk, self._origin = actions, origin
        return True

    def next(self) -> np.ndarray | None:
        """Return the action for this step and count it; None when there is none."""
        if self.left == 0 or self._chunk is None:
            return None
        action = self._chunk[self.step - self._origin]
        self.step += 1
        return action
