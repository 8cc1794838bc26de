"""The end of the server's process, above all while the network computes. Its start is `e2e/test_serve.py`'s."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from programs import REPOSITORY
from serving import observation, opened, packed, png
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.process

COMPUTES_S = 100.0
"""Longer than a test may take: who waits for this hangs."""
PATIENCE_S = 30.0


@contextmanager
def computing(
    shutdown_s: float, computes_s: float = COMPUTES_S
) -> Iterator[tuple[subprocess.Popen[str], ClientConnection]]:
    """Yield a server whose network is at work, and the robot that asked."""
    words = [sys.executable, str(REPOSITORY / "tests" / "slow_server.py"), str(computes_s), str(shutdown_s)]
    with ExitStack() as opening:
        process = opening.enter_context(
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        opening.callback(process.kill)
        assert process.stdout is not None
        said = process.stdout.readline()
        match = re.match(r"ready +(ws://\S+?),", said)
        assert match is not None, said + process.stdout.read()
        robot = opening.enter_context(connect(match[1], compression=None))
        robot.recv()
        robot.send(packed(observation(request_id=1)))
        time.sleep(0.5)  # the question is in the network by now
        yield process, robot


def rest(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit code and what was printed since `ready`."""
    told = process.communicate(timeout=PATIENCE_S)[0]
    return process.returncode, told


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_while_its_network_computes(end: signal.Signals) -> None:
    """Whoever waits is told, the connection is closed with its reason, the exit code is 0, and no thread holds it."""
    with computing(shutdown_s=0.5) as (process, robot):
        process.send_signal(end)
        assert opened(robot.recv(timeout=PATIENCE_S))["code"] == "stopping"
        with pytest.raises(ConnectionClosed) as closed:
            robot.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the server is stopping")
        code, told = rest(process)
    assert code == 0, told
    assert "stopped; 0 observations answered, 1 messages refused" in told
    assert "was given up" in told
    assert "Traceback" not in told


def test_pictures_that_are_too_large_leave_no_word_of_pil_in_the_log() -> None:
    """Python would keep each text of a warning, and with it what hostile clients make up."""
    bomb = {"__image__": True, "format": "png", "data": png(10_000, 10_000)}
    with computing(shutdown_s=PATIENCE_S, computes_s=0.0) as (process, robot):
        assert opened(robot.recv(timeout=PATIENCE_S))["actions"].shape == (10, 7)
        robot.send(packed(observation(request_id=2, more=bomb)))
        assert "a picture that is too large" in str(opened(robot.recv(timeout=PATIENCE_S)))
        process.send_signal(signal.SIGINT)
        code, told = rest(process)
    assert code == 0, told
    assert "Warning" not in told


def test_a_second_interrupt_ends_at_once() -> None:
    with computing(shutdown_s=COMPUTES_S) as (process, _):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # as impatient managers do: what is in progress still has its time
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        code, told = rest(process)
    assert code == 130, told
    assert "ended at once" in told
    assert "Traceback" not in told


def test_what_is_answered_in_time_is_waited_for() -> None:
    with computing(shutdown_s=PATIENCE_S, computes_s=1.5) as (process, robot):
        process.send_signal(signal.SIGINT)
        assert opened(robot.recv(timeout=PATIENCE_S))["actions"].shape == (10, 7)
        code, told = rest(process)
    assert code == 0, told
    assert "stopped; 1 observations answered, 0 messages refused" in told
    assert "given up" not in told
