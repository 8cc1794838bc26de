"""One request: answers, pages, redirections that are not followed, silence, a token that stays where it belongs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pi05.doctor.facts import Answer
from pi05.doctor.probes import web
from pi05.doctor.probes.web import ask_web

ANSWERS = {
    "/json": (200, "application/json", b'{"a": 1}'),
    "/broken": (200, "application/json", b"{"),
    "/page": (200, "text/html; charset=utf-8", b"<html>"),
    "/moved": (302, "text/plain", b""),
    "/gated": (401, "text/plain", b"no"),
}


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str, str | None]]

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, self.headers["Authorization"]))  # type: ignore[attr-defined]
        status, kind, body = ANSWERS.get(self.path, (404, "text/plain", b""))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Location", "/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_answers(server: ThreadingHTTPServer) -> None:
    root = f"http://127.0.0.1:{server.server_port}"
    assert ask_web(f"{root}/json") == Answer(status=200, data={"a": 1})
    assert ask_web(f"{root}/broken") == Answer(status=200)
    assert ask_web(f"{root}/page") == Answer(status=200, page=True)
    assert ask_web(f"{root}/gated", token="secret", method="HEAD") == Answer(status=401)
    assert ask_web(f"{root}/moved", token="secret") == Answer(status=302)
    assert server.seen == [  # type: ignore[attr-defined]
        ("GET", "/json", None),
        ("GET", "/broken", None),
        ("GET", "/page", None),
        ("HEAD", "/gated", "Bearer secret"),
        ("GET", "/moved", "Bearer secret"),
    ]


def test_a_proxy_in_between_and_around_it(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = f"http://127.0.0.1:{server.server_port}/json"
    assert "refused" in (ask_web(url).fault or "")
    assert ask_web(url, directly=True).status == 200


def test_silence_and_impossible_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(web, "SECONDS", 0.2)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert ask_web(url, directly=True).fault == "no answer within 0 s"
    assert ask_web("http://no-such-host.invalid/", directly=True).fault == "the name is not known to the DNS"
    assert ask_web("ftp//nothing", directly=True).fault is not None
