"""Who may come in: key, number of connections, encryption; and what is answered without a websocket. No torch."""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from pi05.errors import ConfigError, ServeError, doing
from pi05.serve.config import KEY_VARIABLE, ServeConfig
from pi05.serve.metrics import Metrics
from pi05.serve.protocol import HEALTH, METRICS, PATHS

SHORTEST_KEY = 16


def read_key(key_file: str | None) -> str | None:
    """Return the key of a file, or of the environment; None where there is none.

    It is no flag, because the command lines of all users can be read on a machine. Raises ConfigError for a short one.
    """
    found, where = os.environ.get(KEY_VARIABLE), f"the variable {KEY_VARIABLE}"
    if key_file is not None:
        with doing("read the key", key_file, ConfigError):
            found, where = Path(key_file).read_text(encoding="utf-8", errors="replace").strip(), key_file
    if found is not None and (len(found) < SHORTEST_KEY or not found.isascii() or not found.isprintable()):
        raise ConfigError(
            "the key cannot be used",
            wanted=f"at least {SHORTEST_KEY} characters of ASCII",
            found=f"{len(found)} characters in {where}",
            remedy="make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return found


def require_safe(config: ServeConfig, key: str | None) -> None:
    """Raise ConfigError for a server that everybody on the network could ask to move a robot."""
    if not config.loopback and key is None:
        raise ConfigError(
            f"--host={config.host} lets other machines in, and there is no key",
            wanted=f"a key in --key_file or in the variable {KEY_VARIABLE}",
            found="none",
            remedy="give a key, and --tls_cert with --tls_key; or listen on 127.0.0.1 and use an SSH tunnel",
        )


def encryption(config: ServeConfig) -> ssl.SSLContext | None:
    """Return what encrypts connections; None without a certificate. Raises ServeError for one that cannot be used."""
    if config.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def locked() -> str:  # OpenSSL would ask for the passphrase, which nobody types into a server
        raise ServeError(
            f"the private key is encrypted: {config.tls_key}",
            wanted="one that can be read without a passphrase",
            found="a passphrase is needed",
            remedy=f"openssl pkey -in {config.tls_key} -out FILE writes it without; keep FILE readable for you alone",
        )

    try:
        context.load_cert_chain(config.tls_cert, config.tls_key, password=locked)
    except ssl.SSLError as error:
        raise ServeError(
            "the certificate cannot be used",
            wanted="a certificate and its private key, both in PEM form",
            found=str(error),
            remedy="check that --tls_key belongs to --tls_cert",
        ) from error
    except OSError as error:
        for name in (config.tls_cert, config.tls_key):
            with doing("read the certificate", name, ServeError):
                Path(str(name)).read_bytes()
        raise ServeError("the certificate cannot be read", found=str(error), remedy="check both files") from error
    return context


class Door:
    """Decides over each connection before it is one."""

    def __init__(self, config: ServeConfig, key: str | None, metrics: Metrics, waiting: Callable[[], int]) -> None:
        self._key = None if key is None else _digest(key)
        self._most, self._metrics, self._waiting = config.max_clients, metrics, waiting
        self.ready = False

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return an HTTP answer, or None to let a websocket be made."""
        path = request.path.partition("?")[0]
        if path in HEALTH:
            json_wanted = path == "/health"  # vla-eval's
            text = '{"status": "ok"}\n' if json_wanted else "OK\n"
            return connection.respond(HTTPStatus.OK, text) if self.ready else self._away(connection, "starting")
        if not self._knows(request):
            return self._away(connection, "key")
        if path == METRICS:
            return connection.respond(HTTPStatus.OK, self._metrics.render(self._waiting(), self.ready))
        if path not in PATHS:
            return self._away(connection, "path")
        if request.headers.get_all("Origin"):  # a web page in a browser on this machine, never a robot
            return self._away(connection, "origin")
        if self._metrics.connected >= self._most:
            return self._away(connection, "full")
        return None

    def _knows(self, request: Request) -> bool:
        """Compare the key in constant time."""
        if self._key is None:
            return True
        sent = request.headers.get_all("Authorization")
        scheme, _, word = (sent[0] if len(sent) == 1 else "").partition(" ")
        right = hmac.compare_digest(_digest(word.strip()), self._key)
        return right and scheme.lower() in ("api-key", "bearer")

    def _away(self, connection: ServerConnection, reason: str) -> Response:
        self._metrics.turned_away[reason] += 1
        status, text = _AWAY[reason]
        return connection.respond(status, text + "\n")


_AWAY = {
    "starting": (HTTPStatus.SERVICE_UNAVAILABLE, "The policy is warming up."),
    "key": (HTTPStatus.UNAUTHORIZED, "The key is missing or wrong: send the header Authorization: Api-Key KEY."),
    "path": (HTTPStatus.NOT_FOUND, f"There is nothing here; policies are asked at {', '.join(PATHS)}."),
    "origin": (HTTPStatus.FORBIDDEN, "Web pages may not move robots."),
    "full": (HTTPStatus.SERVICE_UNAVAILABLE, "There are as many clients as --max_clients allows."),
}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
