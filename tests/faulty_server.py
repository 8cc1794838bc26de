"""A server on localhost that records what it is asked, and can fail on request: an error, or a connection cut off."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

Cut = Literal["before", "middle", "after"]


@dataclass
class Fault:
    """An answer that replaces, or a cut that ends, the next `times` requests to a route."""

    method: str
    route: re.Pattern[str]
    times: int
    status: int | None
    cut: Cut | None
    headers: Mapping[str, str]
    body: bytes | None
    hold: threading.Event | None
    stop_at: int | None = None
    """Bytes of the body after which the connection is cut or, with `hold`, silent."""


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    body_bytes: int


class Cutoff(Exception):
    """The connection ends here."""


class FaultyServer:
    """The server. Use it as a context manager; `url` is its address."""

    def __init__(self, handler: type[FaultyHandler]) -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.after: Callable[[Request], None] | None = None
        self.lock = threading.RLock()
        bound = type("Handler", (handler,), {"server_side": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(
        self,
        method: str,
        route: str,
        status: int | None = None,
        *,
        times: int = 1,
        cut: Cut | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        hold: threading.Event | None = None,
        stop_at: int | None = None,
    ) -> None:
        """Make the next `times` requests whose path contains the pattern `route` fail, or wait for `hold`.

        With `stop_at` the answer breaks off after so many bytes, or with `hold` too waits there for it.
        """
        fault = Fault(method, re.compile(route), times, status, cut, headers or {}, body, hold, stop_at)
        self.faults.append(fault)

    def asked(self, method: str, route: str) -> list[Request]:
        """Return the requests to a route, failed ones included."""
        return [r for r in self.requests if r.method == method and re.search(route, r.path)]


class FaultyHandler(BaseHTTPRequestHandler):
    """One connection."""

    server_side: Any
    """The `FaultyServer` that it belongs to."""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_HEAD = do_GET

    def _serve(self) -> None:
        server = self.server_side
        path = self.path
        length = int(self.headers.get("Content-Length") or 0)
        with server.lock:
            request = Request(self.command, unquote(path), dict(self.headers), length)
            server.requests.append(request)
            fault = next((f for f in server.faults if f.method == self.command and f.route.search(unquote(path))), None)
            if fault is not None:
                fault.times -= 1
                if fault.times == 0:
                    server.faults.remove(fault)
        try:
            if fault is not None and fault.cut in ("before", "middle"):
                self.rfile.read(length // 2 if fault.cut == "middle" else 0)
                raise Cutoff
            body = self._body(length)
            if fault is not None and fault.hold is not None and fault.stop_at is None:
                fault.hold.wait(60)
            if fault is not None and fault.status is not None:
                said = {"error": f"{fault.status} on request"}
                self._answer(fault.status, said if fault.body is None else fault.body, dict(fault.headers))
                return
            with server.lock:
                status, answer, headers = self.route(unquote(urlsplit(path).path), body)
            if fault is not None and fault.cut == "after":
                raise Cutoff
            self._answer(status, answer, headers, fault)
        except Cutoff:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        if server.after is not None:
            server.after(request)

    def _body(self, length: int) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(length)
        chunks = []
        while size := int(self.rfile.readline().strip(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, answer: Any, headers: Mapping[str, str], fault: Fault | None = None) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(answer, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if fault is not None and fault.stop_at is not None:
            self.wfile.write(data[: fault.stop_at])
            self.wfile.flush()
            if fault.hold is None:
                # a lingering close throws away what the other side has not read yet
                self.connection.shutdown(socket.SHUT_WR)
                self.close_connection = True
                return
            fault.hold.wait(60)
            raise Cutoff
        if self.command != "HEAD":
            self.wfile.write(data)

    def route(self, path: str, body: bytes) -> tuple[int, Any, Mapping[str, str]]:
        """Return status, answer and headers of a request."""
        raise NotImplementedError
