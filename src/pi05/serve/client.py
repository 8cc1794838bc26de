"""A robot's side of `pi05 serve`: compares the contract, asks for chunks, executes them, measures how long that takes.

Needs NumPy, msgpack and websockets; no torch, so that it runs on the computer of a robot. The control loop stays the
robot's: `next_action` gives one action for one observation. It raises rather than give an action that is too old, and
then the arm has to hold still. The connection, and how it comes back, are `line.py`'s.

In `aligned` mode, with a server that continues chunks (`--chunking`), each question tells how many actions of the chunk
in execution will be carried out until its answer is there. Where the server has forgotten that chunk, after a lost
connection, or the policy was not trained for so long a delay, the robot carries out what it has, stands still, and
goes on with a chunk that continues none.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from pi05.errors import Refused, ServeError
from pi05.serve.chunks import ChunkPlayer, Delays, Mode
from pi05.serve.line import Line
from pi05.serve.protocol import Contract, require_rate

LATENCIES = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Coming:
    """A chunk that was asked for, and what was told of the robot then."""

    step: int
    delay: int | None
    """Control steps until it takes over; None: it continues nothing."""
    answer: Future[tuple[np.ndarray | None, float | None]]
    """The actions, and the seconds that they took; None: the server has forgotten what they should continue."""


class PolicyClient:
    """One robot's connection to a policy."""

    def __init__(
        self,
        address: str = "ws://127.0.0.1:8000",
        *,
        key: str | None = None,
        control_rate_hz: float | None = None,
        mode: Mode = "sync",
        deadline_ms: float = 2000.0,
        reconnect_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect. Raises ServeError where nobody answers, or the robot is controlled at another rate than trained.

        `key` is that of the server, the variable PI05_SERVE_KEY when not given. `deadline_ms`: after how long an answer
        is of no use. `reconnect_s`: for how long a lost connection is tried again. `tls`: for wss:// with a certificate
        that the system does not know.
        """
        self.mode, self.deadline_ms, self._rate = mode, deadline_ms, control_rate_hz
        self.overdue = 0
        """Chunks that came later than was forecast, so that their seam is not the one that they were made for."""
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._background = ThreadPoolExecutor(1, thread_name_prefix="pi05-client")
        self._coming: Coming | None = None
        self._line = Line(address, key=key, deadline_ms=deadline_ms, reconnect_s=reconnect_s, tls=tls)
        self._player = ChunkPlayer(self.contract.n_action_steps)
        self._standing = False
        try:
            if control_rate_hz is not None:
                require_rate(control_rate_hz, self.contract.control_rate_hz)
            self._delays = self._measured_delays()
        except ServeError:  # nobody gets this client, to close it
            self.close()
            raise

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a chunk that was asked for in the background does not come any more."""
        self._background.shutdown(wait=False, cancel_futures=True)
        self._line.close()

    @property
    def contract(self) -> Contract:
        """What the policy behind the server needs and answers."""
        return self._line.contract

    def require(
        self,
        *,
        cameras: Sequence[str] | None = None,
        state_names: Sequence[str] | None = None,
        action_names: Sequence[str] | None = None,
    ) -> None:
        """Raise ServeError where the robot does not fit the policy: see `Contract.require`."""
        self.contract.require(cameras=cameras, state_names=state_names, action_names=action_names)

    def infer(
        self,
        observation: Mapping[str, Any],
        *,
        seed: int | None = None,
        step: int | None = None,
        delay: int | None = None,
        continues: int | None = None,
    ) -> dict[str, Any]:
        """Return {"actions": float32[A, n] in robot units, "warnings", "server_timing", …} for one observation.

        `step` counts control steps. With `delay` the chunk continues the last one, of which so many actions are carried
        out from the observation on until the answer is used; `continues` names another one by the step that it was
        given for. Raises Refused when the server does not answer this observation, ServeError when the connection is
        lost for longer than `reconnect_s`, or the policy behind it is another one afterwards.
        """
        options = {"seed": seed, "step": step, "control_rate_hz": self._rate, "deadline_ms": self.deadline_ms}
        options |= {"delay": delay, "continues": continues}
        options = {name: value for name, value in options.items() if value is not None}
        started = time.monotonic()
        answer = self._line.ask({**observation, **options})
        seconds = time.monotonic() - started
        self._latencies.append(seconds)
        if 1000 * seconds > self.deadline_ms:
            raise _too_late(1000 * seconds, self.deadline_ms)
        if answer.get("delay") != delay:
            raise ServeError(
                "the server does not continue chunks",
                wanted=f"a chunk that continues {delay} actions",
                found="one that continues none",
                remedy="install the same pi05 on both machines",
            )
        return answer

    def reset(self) -> None:
        """Begin another episode of this robot: no chunk or step of the last one is kept, here and at the server."""
        if self._coming is not None:
            self._coming.answer.cancel()
            self._coming = None
        self._player.reset()
        self._standing = False
        self._line.ask({"endpoint": "reset"})

    def next_action(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Return the action for this control step: float32[n]. Call it once a step, with what the robot sees now.

        Raises Refused or ServeError when there is none; the robot must hold still then.
        """
        if self.mode == "aligned":
            self._exchange(observation)
        if (self.mode == "sync" and self._player.wants_chunk) or self._player.left == 0:
            self._wait_for_chunk(observation)
        action = self._player.next()
        if action is None:
            raise _too_late(self.deadline_ms, self.deadline_ms)
        return action

    def latency_ms(self) -> dict[str, float]:
        """Return the percentiles 50, 95 and 99 of the last thousand round trips, in milliseconds."""
        if not self._latencies:
            return {}
        values = np.percentile(np.array(self._latencies), (50, 95, 99)) * 1000
        return dict(zip(("p50", "p95", "p99"), map(float, values), strict=True))

    # --- chunks ------------------------------------------------------------------------------------------------------

    def _measured_delays(self) -> Delays | None:
        """Return what forecasts the delay; None where chunks are not continued."""
        if self.mode == "sync" or self.contract.chunking == "synchronous":
            return None
        rate = self._rate or self.contract.control_rate_hz
        if rate is None:
            raise ServeError(
                "the delay of a chunk cannot be told in control steps",
                wanted="the rate at which the robot is controlled",
                found="none, neither here nor in the checkpoint",
                remedy="give control_rate_hz",
            )
        return Delays(rate, self.contract.warm_s or 0.0)

    def _exchange(self, observation: Mapping[str, Any]) -> None:
        """Take a chunk that has arrived; ask for the next one when its time has come."""
        if self._coming is not None and self._coming.answer.done():
            self._take_coming()
        if self._coming is None and self._player.wants_chunk and self._player.left and not self._standing:
            self._ask(observation)

    def _ask(self, observation: Mapping[str, Any]) -> None:
        """Ask for a chunk, and tell how many actions of the old one are carried out until then: all, at most."""
        step, origin = self._player.step, self._player.origin
        delay = None if self._delays is None else min(self._delays.forecast, self._player.left)
        most = self.contract.max_delay
        if delay is not None and most is not None and delay > most:
            self._stand_still(f"a delay of {delay} control steps is expected, and the policy was trained for {most}")
            return
        continues = None if delay is None else origin
        answer = self._background.submit(self._chunk, dict(observation), step, delay, continues)
        self._coming = Coming(step=step, delay=delay, answer=answer)

    def _wait_for_chunk(self, observation: Mapping[str, Any]) -> None:
        if self._coming is not None:
            self._take_coming()
        if self._player.left == 0 or (self.mode == "sync" and self._player.wants_chunk):
            self._player.reset()
            chunk, seconds = self._chunk(observation, self._player.step)
            if self._delays is not None and seconds is not None:
                self._delays.note(self._delays.steps(seconds))
            if chunk is not None:
                self._player.take(chunk, self._player.step)
            self._standing = False

    def _take_coming(self) -> None:
        """Take the chunk that was asked for; an error is told once, and the next step asks anew."""
        coming, self._coming = self._coming, None
        if coming is None:
            return
        (chunk, seconds), passed = coming.answer.result(), self._player.step - coming.step
        if chunk is None:
            self._stand_still("the server has forgotten the chunk in execution")
            return
        if self._delays is not None and seconds is not None:
            self._delays.note(max(passed, self._delays.steps(seconds)))
        if coming.delay is not None and passed > coming.delay:
            self.overdue += 1
            logger.warning("a chunk came %d control steps after its observation, not %d", passed, coming.delay)
        self._player.take(chunk, coming.step, coming.delay or 0)

    def _stand_still(self, why: str) -> None:
        """Let the robot carry out what it has and wait for a chunk that continues none."""
        self._standing = True
        logger.warning("%s: the robot will stand still for one chunk", why)

    def _chunk(
        self, observation: Mapping[str, Any], step: int, delay: int | None = None, continues: int | None = None
    ) -> tuple[np.ndarray | None, float | None]:
        """Return the actions for an observation, or None where the server has forgotten what they should continue.

        Beside them the seconds that the answer took; None where the connection was lost meanwhile, since the next
        answer will not wait for one. This may run in the background.
        """
        started, before = time.monotonic(), self._line.reconnected
        try:
            actions = self.infer(observation, step=step, delay=delay, continues=continues)["actions"]
        except Refused as error:
            if error.code != "forgotten":
                raise
            actions = None
        return actions, time.monotonic() - started if self._line.reconnected == before else None


def _too_late(passed_ms: float, deadline_ms: float) -> Refused:
    return Refused(
        "the actions came too late to be executed",
        code="late",
        wanted=f"an answer within {deadline_ms:.0f} ms",
        found=f"{passed_ms:.0f} ms",
        remedy="hold the robot still; allow more time with deadline_ms, or use a faster machine or network",
    )
