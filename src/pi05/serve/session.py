"""What is kept of one client, and only while it is connected: how it speaks, how often, its chunk. No torch.

A client that comes back after a lost connection starts anew, as it does with another `session_id`, after `reset`, and
when vla-eval starts an episode. Real-time chunking continues what is kept (`rtc.py`). Only what cameras showed outlives
an episode: that is a matter of the robot, which a `session_id` stands for where several share a connection.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from pi05.data.robot.recent_looks import RecentLooks
from pi05.errors import Refused
from pi05.serve.dialects import Address, Ask
from pi05.serve.protocol import Contract
from pi05.serve.underway import Underway

SESSIONS = 16
"""Sessions of one connection whose looks are kept: those that asked last."""


@dataclass(kw_only=True)
class KeptChunk:
    """A chunk that a client was given."""

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
    """The last chunk that it was given."""
    executed: KeptChunk | None = None
    """The chunk that it carried out when it asked for `kept`; it still does where `kept` came too late to be used."""
    looks: OrderedDict[str | None, list[RecentLooks]] = field(default_factory=OrderedDict)
    """What the cameras of each session's robots showed lately; the session that has not asked for longest is first."""
    last_step: int | None = None
    last_total_ms: float | None = None
    asked: float = float("-inf")
    """When it asked last, or was answered, on the clock of `time.monotonic`."""

    def require_allowed(self) -> None:
        """Count one message. Raises Refused for one too many."""
        if not self.allowance.spend():
            raise Refused(
                "messages come too fast",
                code="rate",
                wanted=f"at most {self.allowance.per_second:g} a second",
                found="more",
                remedy="ask once for each chunk of actions, or start the server with a higher --max_requests_per_s",
            )

    def reset(self) -> None:
        """Forget what was kept of the episode; the next one has the same cameras."""
        self.kept, self.executed, self.last_step = None, None, None

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

    def looks_of(self, count: int) -> list[RecentLooks]:
        """Return what the cameras of the robots of this session showed lately, to be added to: by place in the message.

        StarVLA's examples are of several robots, in the same order each time; all others ask for one.
        """
        kept = self.looks.setdefault(self.session_id, [])
        kept += [RecentLooks() for _ in range(count - len(kept))]
        self.looks.move_to_end(self.session_id)
        if len(self.looks) > SESSIONS:
            self.looks.popitem(last=False)
        return kept[:count]

    def keep(self, actions: np.ndarray, ask: Ask) -> None:
        """Keep the chunk that answers a message, beside the one that the client is still carrying out."""
        executed = None if ask.delay is None else self._continued(ask)
        self.kept, self.executed = KeptChunk(actions=actions, step=ask.step), executed

    def underway(self, ask: Ask, contract: Contract) -> Underway | None:
        """Return what the client is doing while it waits for the next chunk; None where it has not told a delay.

        Raises Refused where it wants a chunk continued that is not kept, or further than it reaches or was trained,
        and from a server that continues none.
        """
        if ask.delay is None:
            return None
        if contract.chunking == "synchronous":
            raise Refused(
                "this server does not continue chunks",
                code="unsupported",
                wanted="no delay",
                found=f"a delay of {ask.delay} control steps",
                remedy="start it with --chunking=guided, or trained; or leave delay out and stand still until the "
                "chunk is there",
            )
        kept = self._continued(ask)
        if kept is None or kept.step is None or ask.step is None:
            of = "the last chunk" if ask.continues is None else f"the chunk of step {ask.continues}"
            raise Refused(
                "the chunk that should be continued is not kept",
                code="forgotten",
                wanted=f"{of}, which was given on this connection, in this session, for an observation with a step",
                found="none" if self.kept is None else f"the chunk of step {self.kept.step}",
                remedy="carry out what is left of it, stand still, and ask once without delay",
            )
        left = kept.actions[ask.step - kept.step :]
        if not len(left) or ask.delay > len(left):
            raise _too_long(ask.delay, f"at most {len(left)}, the actions that are left of the chunk", "ask sooner")
        if contract.max_delay is not None and ask.delay > contract.max_delay:
            remedy = f"train with --rtc_max_delay={ask.delay + 1} or more, or start the server with --chunking=guided"
            raise _too_long(ask.delay, f"at most {contract.max_delay}, as trained", remedy)
        return Underway(actions=left, delay=ask.delay)

    def _continued(self, ask: Ask) -> KeptChunk | None:
        """Return the chunk that a message wants continued; None where it is not kept."""
        if ask.continues is None:
            return self.kept
        found = [one for one in (self.kept, self.executed) if one is not None and one.step == ask.continues]
        return found[0] if found else None

    def next_kept_action(self, contract: Contract) -> np.ndarray | None:
        """Return the next action of the kept chunk for a client that takes them one by one; None when it is used up."""
        kept = self.kept
        if kept is None or kept.given >= min(contract.n_action_steps, len(kept.actions)):
            return None
        kept.given += 1
        return kept.actions[kept.given - 1]


def _too_long(delay: int, wanted: str, remedy: str) -> Refused:
    return Refused(
        "the chunk cannot be continued over so long a delay",
        code="delay",
        wanted=f"a delay of {wanted}",
        found=f"{delay} control steps",
        remedy=remedy,
    )
