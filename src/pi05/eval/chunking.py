"""What a robot carries out from look to look when a chunk arrives some control steps after its observation.

    look             chunk arrives            look
     ├── delay ──────────┼────────────────────┤
     │ stands still      │ n_action_steps     │     synchronous: the robot waits for each chunk
     │ rest of the old … │ … the new one      │     naive, guided, trained: n_action_steps in all

The simulator stands still while the policy computes, so the delay is injected: of a new chunk, the actions for the
steps that have passed meanwhile are never carried out. The first chunk of an episode has nothing before it; the robot
stands until it is there, which costs no step in any way of chunking.

The seam is where a new chunk takes over: its largest step is how far a command there is from the command before it.
Leaves out how chunks are made to agree (`serve/rtc.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pi05.errors import EvaluationError
from pi05.eval.config import Chunking
from pi05.eval.rules import Rules
from pi05.serve.underway import Underway


class Course:
    """The actions of one episode."""

    def __init__(self, chunking: Chunking, delay: int, n_action_steps: int, motions: Sequence[bool]) -> None:
        """`motions`: dimensions that move as long as they are not 0; the others are positions. None told: positions."""
        self._waits, self._delay, self._executed = chunking == "synchronous", delay, n_action_steps
        self._motions = np.array(motions, bool)
        self._chunk: Float[np.ndarray, "A n"] | None = None
        self._chunks = 0
        self._last: Float[np.ndarray, " n"] | None = None
        self._last_chunk = 0
        self._steps = 0
        self._seams: list[tuple[int, Float[np.ndarray, " n"]]] = []

    @property
    def underway(self) -> Underway | None:
        """What is left of the chunk at this look; None where the robot stands until the next one is there."""
        if self._chunk is None or self._waits:
            return None
        return Underway(actions=self._chunk[self._executed :], delay=self._delay)

    def until_next_look(self, chunk: Float[np.ndarray, "A n"]) -> Float[np.ndarray, "steps n"]:
        """Take the chunk for this look and return what is carried out until the next one."""
        if self._chunk is None or self._last is None:
            before, new = chunk[:0], chunk[: self._executed]
        elif self._waits:
            before = np.repeat(self._still(self._last)[None], self._delay, axis=0)
            new = chunk[: self._executed]
        else:
            before = self._chunk[self._executed :][: self._delay]
            new = chunk[self._delay : self._executed]
        self._carry_out(before, self._last_chunk if self._waits else self._chunks)
        self._chunk, self._chunks = chunk, self._chunks + 1
        self._carry_out(new, self._chunks)
        return np.concatenate([before, new])

    def _carry_out(self, actions: Float[np.ndarray, "steps n"], number: int) -> None:
        """Note actions of the chunk of this number, and the seam where it takes over."""
        if not len(actions):
            return
        if self._last is not None and number != self._last_chunk:
            self._seams.append((self._steps, np.abs(actions[0] - self._last)))
        self._last, self._last_chunk, self._steps = actions[-1], number, self._steps + len(actions)

    def largest_seam(self, steps: int) -> list[float] | None:
        """Return the largest step at a seam, per action dimension, in an episode of that many steps; None: no seam."""
        reached = [jump for step, jump in self._seams if step < steps]
        return np.max(reached, axis=0).astype(float).tolist() if reached else None

    def _still(self, last: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the action that leaves the robot where it is: positions are repeated, motions are 0."""
        return np.where(self._motions, 0, last).astype(last.dtype) if len(self._motions) else last


def require_possible(rules: Rules, horizon: int) -> None:
    """Raise EvaluationError where a chunk is over before the next one arrives."""
    executed, delay = rules.n_action_steps, rules.delay
    if rules.chunking == "synchronous":
        return
    if delay > executed:
        raise EvaluationError(
            "the robot would look again before the chunk for its last look is there",
            wanted=f"--delay of at most {executed}, the actions from look to look",
            found=str(delay),
            remedy=f"raise --policy.n_action_steps to {delay} or more, or lower --delay",
        )
    if executed + delay > horizon:
        raise EvaluationError(
            "the robot would have nothing to do until the next chunk arrives",
            wanted=f"n_action_steps and --delay of at most {horizon} together, the actions of a chunk",
            found=f"{executed} and {delay}",
            remedy="lower --policy.n_action_steps or --delay, or use --chunking=synchronous, where the robot waits",
        )
