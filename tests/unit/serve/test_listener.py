"""One server alone has a port, from before it listens until it ends."""

from __future__ import annotations

import socket

import pytest

from pi05.errors import ServeError
from pi05.serve.listener import bind, leave_to_successor


@pytest.mark.parametrize("starting", [True, False])
def test_a_port_that_is_taken_or_an_address_elsewhere_is_told(starting: bool) -> None:
    with bind("127.0.0.1", 0) as taken:
        if not starting:  # a server listens when its weights are read
            taken.listen()
        with pytest.raises(ServeError, match=r"cannot listen on 127\.0\.0\.1"):
            bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ServeError, match="cannot listen"):
        bind("192.0.2.1", 0)


def test_a_port_with_the_last_ends_of_connections_can_be_had() -> None:
    with bind("127.0.0.1", 0) as listener:
        leave_to_successor(listener)
        listener.listen()
        address = listener.getsockname()
        with socket.create_connection(address) as client:
            server_end, _ = listener.accept()
            server_end.close()  # the side that closes first keeps the address for a minute
            assert client.recv(1) == b""
    bind("127.0.0.1", address[1]).close()
