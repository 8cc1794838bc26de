"""A robot's line to `pi05 serve`: one question at a time, its answer, and a new connection where one is lost.

Needs NumPy, msgpack and websockets; no torch. What is asked, and when, is `client.py`'s business.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from pi05.errors import Refused, ServeError
from pi05.serve.arrays import pack, unpack
from pi05.serve.config import KEY_VARIABLE
from pi05.serve.protocol import Contract

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class Line:
    """A connection that comes back."""

    def __init__(
        self, address: str, *, key: str | None, deadline_ms: float, reconnect_s: float, tls: ssl.SSLContext | None
    ) -> None:
        """Connect. Raises ServeError where nobody answers. What is what: see `PolicyClient`."""
        self.address, self.deadline_ms, self.reconnect_s = address, deadline_ms, reconnect_s
        self._headers = {"Authorization": f"Api-Key {found}"} if (found := key or os.environ.get(KEY_VARIABLE)) else {}
        self._tls = tls
        self._lock = threading.Lock()
        self._request_id = 0
        self._session_id = os.urandom(8).hex()  # of this robot, for all of its episodes
        self._closed = False
        self.reconnected = 0
        """How often a lost connection was made anew."""
        self._connection, self.contract = self._connect()

    def close(self) -> None:
        """End the connection, for good: a question that is in progress, in another thread, is not asked again."""
        self._closed = True
        self._connection.close()

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send one message and return its answer, over a new connection where the old one is lost.

        Raises Refused when the server refuses it, ServeError when nobody answers for `reconnect_s`, or another policy,
        and after `close`.
        """
        with self._lock:
            self._request_id += 1
            sent = {**message, "request_id": self._request_id, "session_id": self._session_id}
            until = time.monotonic() + self.reconnect_s
            pause = FIRST_PAUSE_S
            while True:
                try:
                    return self._exchange_once(pack(sent))
                except (ConnectionClosed, OSError) as error:
                    self._require_open()
                    if time.monotonic() + pause > until:
                        raise _lost(self.address, error) from error
                time.sleep(pause)
                self._require_open()
                pause = min(2 * pause, LONGEST_PAUSE_S)
                self._reconnect(until)

    def _exchange_once(self, frame: bytes) -> dict[str, Any]:
        self._connection.send(frame)
        while True:
            received = self._connection.recv(timeout=max(30.0, 2 * self.deadline_ms / 1000))
            if isinstance(received, str):
                raise ServeError("the server answers with text", found=received[:300], remedy="read the server's log")
            answer, _ = unpack(received)
            unread = answer.get("type") == "error" and answer.get("request_id") is None  # so its id is not known
            if answer.get("request_id") == self._request_id or unread:
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
                found=f"checkpoint {contract.checkpoint[:12]}"
                + ", with other settings" * (contract.checkpoint == self.contract.checkpoint),
                remedy="stop the robot, and start its program again",
            )
        before, self._connection = self._connection, connection
        before.close()  # one whose answer did not come in time is still open
        self.reconnected += 1
        if self._closed:  # meanwhile
            connection.close()

    def _require_open(self) -> None:
        if self._closed:
            raise ServeError("the connection was closed by its own program", remedy="make another client")

    def _connect(self) -> tuple[ClientConnection, Contract]:
        encrypted: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls}
        with ExitStack() as opening:
            try:
                connection = opening.enter_context(  # as newer versions of websockets want it
                    connect(
                        self.address,
                        additional_headers=self._headers,
                        compression=None,
                        max_size=None,
                        ping_interval=None,
                        proxy=None,
                        open_timeout=10,
                        close_timeout=2,
                        **encrypted,
                    )
                )
                first = connection.recv(timeout=10)
            except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed, ValueError) as error:
                raise _lost(self.address, error) from error
            if isinstance(first, str):
                raise ServeError("this is no policy server", found=first[:200], remedy="check the address")
            contract = Contract.from_metadata(unpack(first)[0])
            opening.pop_all()  # from here on `close` ends it
        return connection, contract


def _lost(address: str, error: Exception) -> ServeError:
    return ServeError(
        f"no policy server can be asked at {address}",
        found=str(error) or type(error).__name__,
        remedy="start pi05 serve there; check address, --host, firewall, and the key",
    )
