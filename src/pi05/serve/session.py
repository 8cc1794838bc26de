"""What is kept of one client, and only while it is connected: how it speaks, how often, its chunk. No torch.

A client that comes back after a lost connection starts anew, as it does with another `session_id`, after `reset`, and
when vla-eval starts an episode. Real-time chunking will continue `kept`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from pi05.errors import Refused
from pi05.serve.dialects import Address, Ask
from pi05.serve.protocol import Contract


@dataclass(kw_only=True)
class KeptChunk:
    """The last chunk that a client was given."""

    actions: np.ndarray
    """float32[A, n], in robot units."""
    step: int | None = None
    """The client's control step at which its observation was made."""
    given: int = 0
    """Actions of it that were handed out one by one, to vla-eval."""


class Allowance:
    """How many messages a connection may send: a bucket that holds one second's worth."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._left, self._seen = max(1.0, per_second), time.monotonic()

    def spend(self) -> bool:
        """Take one message from the bucket; tell whether there was one."""
        now = time.monotonic()
        self._left = min(max(1.0, self.per_second), self._left + (now - self._seen) * self.per_second)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(kw_only=True, eq=False)
class Session:
    """One connection."""

    allowance: Allowance
    address: Address = field(default_factory=Address)
    """How the last message was written, which decides how the next one is answered if it cannot be read."""
    session_id: str | None = None
    kept: KeptChunk | None = None
    last_step: int | None = None
    last_total_ms: float | None = None
    asked: float = float("-inf")
    """When it asked last, or was answered, on the clock of `time.monotonic`."""

    def reset(self) -> None:
        """Forget what was kept of the episode."""
        self.kept, self.last_step = None, None

    def begin(self, ask: Ask) -> None:
        """Take note of a message: another session or episode forgets the one before.

        Raises Refused for an observation that is older than the last one.
        """
        if ask.what == "reset" or ask.starts_episode:
            self.reset()
        if ask.session_id is not None and ask.session_id != self.session_id:
            self.reset()
            self.session_id = ask.session_id
        if ask.step is not None:
            if self.last_step is not None and ask.step < self.last_step:
                raise Refused(
                    "the observation is older than the one before it",
                    code="late",
                    wanted=f"step {self.last_step} or later",
                    found=f"step {ask.step}",
                    remedy="count control steps upwards; send reset at the start of an episode",
                )
            self.last_step = ask.step

    def next_kept_action(self, contract: Contract) -> np.ndarray | None:
        """Return the next action of the kept chunk for a client that takes them one by one; None when it is used up."""
        kept = self.kept
        if kept is None or kept.given >= min(contract.n_action_steps, len(kept.actions)):
            return None
        kept.given += 1
        return kept.actions[kept.given - 1]
