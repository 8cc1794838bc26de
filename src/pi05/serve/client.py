"""A robot's side of `pi05 serve`: connects, compares the contract, executes chunks, comes back after a lost connection.

Needs NumPy, msgpack and websockets; no torch, so that it runs on the computer of a robot. The control loop stays the
robot's: `next_action` gives one action for one observation. It raises rather than give an action that is too old, and
then the arm has to hold still.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from pi05.errors import Refused, ServeError
from pi05.serve.arrays import pack, unpack
from pi05.serve.chunks import ChunkPlayer, Mode
from pi05.serve.config import KEY_VARIABLE
from pi05.serve.protocol import Contract, require_rate

LATENCIES = 1000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


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
        self.address, self.mode, self.deadline_ms, self.reconnect_s = address, mode, deadline_ms, reconnect_s
        self._headers = {"Authorization": f"Api-Key {found}"} if (found := key or os.environ.get(KEY_VARIABLE)) else {}
        self._tls, self._rate = tls, control_rate_hz
        self._lock = threading.Lock()
        self._request_id = 0
        self._session_id = os.urandom(8).hex()
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._background = ThreadPoolExecutor(1, thread_name_prefix="pi05-client")
        self._coming: Future[tuple[np.ndarray, int]] | None = None
        self._connection, self.contract = self._connect()
        if control_rate_hz is not None:
            require_rate(control_rate_hz, self.contract.control_rate_hz)
        self._player = ChunkPlayer(self.contract.n_action_steps)

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._background.shutdown(wait=False, cancel_futures=True)
        self._connection.close()

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
        self, observation: Mapping[str, Any], *, seed: int | None = None, step: int | None = None
    ) -> dict[str, Any]:
        """Return {"actions": float32[A, n] in robot units, "warnings", "server_timing", …} for one observation.

        Raises Refused when the server does not answer this observation, ServeError when the connection is lost for
        longer than `reconnect_s`, or the policy behind it is another one afterwards.
        """
        options = {"seed": seed, "step": step, "control_rate_hz": self._rate, "deadline_ms": self.deadline_ms}
        options = {name: value for name, value in options.items() if value is not None}
        started = time.monotonic()
        answer = self._ask({**observation, **options})
        seconds = time.monotonic() - started
        self._latencies.append(seconds)
        if 1000 * seconds > self.deadline_ms:
            raise _too_late(1000 * seconds, self.deadline_ms)
        return answer

    def reset(self) -> None:
        """Begin another episode: nothing of the last one is kept, here and at the server."""
        if self._coming is not None:
            self._coming.cancel()
            self._coming = None
        self._player.reset()
        self._session_id = os.urandom(8).hex()
        self._ask({"endpoint": "reset"})

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

    def _exchange(self, observation: Mapping[str, Any]) -> None:
        """Take a chunk that has arrived; ask for the next one when its time has come."""
        if self._coming is not None and self._coming.done():
            self._take_coming()
        if self._coming is None and self._player.wants_chunk and self._player.left:
            self._coming = self._background.submit(self._chunk, dict(observation), self._player.step)

    def _wait_for_chunk(self, observation: Mapping[str, Any]) -> None:
        if self._coming is not None:
            self._take_coming()
        if self._player.left == 0 or (self.mode == "sync" and self._player.wants_chunk):
            self._player.reset()
            self._player.take(*self._chunk(observation, self._player.step))

    def _take_coming(self) -> None:
        """Take the chunk that was asked for; an error is told once, and the next step asks anew."""
        coming, self._coming = self._coming, None
        if coming is not None:
            self._player.take(*coming.result())

    def _chunk(self, observation: Mapping[str, Any], step: int) -> tuple[np.ndarray, int]:
        return self.infer(observation, step=step)["actions"], step

    # --- the connection ----------------------------------------------------------------------------------------------

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send one message and return its answer, over a new connection where the old one is lost."""
        with self._lock:
            self._request_id += 1
            sent = {**message, "request_id": self._request_id, "session_id": self._session_id}
            until = time.monotonic() + self.reconnect_s
            pause = FIRST_PAUSE_S
            while True:
                try:
                    return self._exchange_once(pack(sent))
                except (ConnectionClosed, OSError) as error:
                    if time.monotonic() + pause > until:
                        raise _lost(self.address, error) from error
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                self._reconnect(until)

    def _exchange_once(self, frame: bytes) -> dict[str, Any]:
        self._connection.send(frame)
        while True:
            received = self._connection.recv(timeout=max(30.0, 2 * self.deadline_ms / 1000))
            if isinstance(received, str):
                raise ServeError("the server answers with text", found=received[:300], remedy="read the server's log")
            answer, _ = unpack(received)
            if answer.get("request_id") == self._request_id:
                break  # an answer to an older question is of no use any more
        if answer.get("type") == "error":
            raise Refused(
                str(answer.get("problem")),
                code=str(answer.get("code")),
                wanted=answer.get("wanted"),
                found=answer.get("found"),
                remedy=str(answer.get("remedy")),
            )
        return answer

    def _reconnect(self, until: float) -> None:
        """Connect again if the server is there, and make sure that it is still the same policy."""
        try:
            connection, contract = self._connect()
        except ServeError:
            if time.monotonic() > until:
                raise
            return
        if contract != self.contract:
            connection.close()
            raise ServeError(
                "the server has another policy than before",
                wanted=f"checkpoint {self.contract.checkpoint[:12]}",
                found=f"checkpoint {contract.checkpoint[:12]}",
                remedy="stop the robot, and start its program again",
            )
        self._connection = connection

    def _connect(self) -> tuple[ClientConnection, Contract]:
        encrypted: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls}
        try:
            connection = ExitStack().enter_context(  # as newer versions of websockets want it; `close` ends it
                connect(
                    self.address,
                    additional_headers=self._headers,
                    compression=None,
                    max_size=None,
                    ping_interval=None,
                    proxy=None,
                    open_timeout=10,
                    **encrypted,
                )
            )
            first = connection.recv(timeout=10)
        except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed, ValueError) as error:
            raise _lost(self.address, error) from error
        if isinstance(first, str):
            raise ServeError("this is no policy server", found=first[:200], remedy="check the address")
        return connection, Contract.from_metadata(unpack(first)[0])


def _lost(address: str, error: Exception) -> ServeError:
    return ServeError(
        f"no policy server can be asked at {address}",
        found=str(error) or type(error).__name__,
        remedy="start pi05 serve there; check address, --host, firewall, and the key",
    )


def _too_late(passed_ms: float, deadline_ms: float) -> Refused:
    return Refused(
        "the actions came too late to be executed",
        code="late",
        wanted=f"an answer within {deadline_ms:.0f} ms",
        found=f"{passed_ms:.0f} ms",
        remedy="hold the robot still; allow more time with deadline_ms, or use a faster machine or network",
    )
