"""The address that a server listens on: had before its weights are read, by one server alone.

Two sockets of one port on which nobody listens yet may both be bound where both say SO_REUSEADDR, as servers do; the
second would notice when it listens, minutes later. So it is said only when this server listens.
"""

from __future__ import annotations

import errno
import socket

from pi05.errors import ServeError
from pi05.serve.config import ServeConfig


def bind(host: str, port: int) -> socket.socket:
    """Return a socket on an address, which nobody can connect to yet. Raises ServeError where it is not to be had.

    This comes before the weights are read: a port that is taken is told at once, one of a server that is starting too.
    """
    try:
        try:
            return _bound(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        # The ends of a former server's connections linger for a minute; a server that listens is in the way even so.
        return _bound(host, port, beside_old_connections=True)
    except OSError as error:
        raise ServeError(
            f"cannot listen on {host}:{port}",
            found=error.strerror or str(error),
            remedy="choose another --port (0 takes a free one), or stop the server that has it; --host is an address "
            "of this machine",
        ) from error


def leave_to_successor(listener: socket.socket) -> None:
    """Let the next server have the port at once when this one has ended; to be called before it listens."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _bound(host: str, port: int, *, beside_old_connections: bool = False) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # With this, two sockets that do not listen yet share a port, so that it is the second choice.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(beside_old_connections))
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def address_text(config: ServeConfig, listener: socket.socket) -> str:
    """Return the address that clients connect to."""
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{'ws' if config.tls_cert is None else 'wss'}://{name}:{port}"
