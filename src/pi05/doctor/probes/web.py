"""One request with a short limit; the answer as facts. Nothing is sent but the question, and a token where it belongs.

The standard library's client, because the hub's own is an extra. It follows no redirection: where a token is sent is
where it stays.
"""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from pi05.doctor.facts import Answer

SECONDS = 5.0
MOST_BYTES = 2**20

Ask = Callable[..., Answer]
"""`ask(url, token=None, directly=False)`."""


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


def ask_web(url: str, *, token: str | None = None, directly: bool = False, method: str = "GET") -> Answer:
    """Ask an address, through the proxies of the environment or `directly`."""
    proxies = [urllib.request.ProxyHandler({})] if directly else []
    opener = urllib.request.build_opener(_Stay, *proxies)
    headers = {"User-Agent": "pi05-doctor", **({} if token is None else {"Authorization": f"Bearer {token}"})}
    try:
        request = urllib.request.Request(url, headers=headers, method=method)
        with opener.open(request, timeout=SECONDS) as answer:
            return _read(answer.status, answer.headers.get("Content-Type", ""), answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return _read(error.code, error.headers.get("Content-Type", ""), b"")
    except urllib.error.URLError as error:
        return Answer(fault=_reason(error.reason))
    except (OSError, ValueError) as error:
        return Answer(fault=_reason(error))


def _read(status: int, kind: str, body: bytes) -> Answer:
    try:
        data = json.loads(body) if "json" in kind else None
    except ValueError:
        data = None
    return Answer(status=status, page="html" in kind, data=data)


def _reason(error: BaseException | str) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:.0f} s"
    if isinstance(error, socket.gaierror):
        return "the name is not known to the DNS"
    return (str(error).splitlines() or [type(error).__name__])[0]
