"""Signals become a wish, a second one an order, and afterwards everything is as before."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from pi05.train.interrupt import listen


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_is_a_wish(number: signal.Signals, name: str) -> None:
    before = signal.getsignal(number)
    with listen() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.name == name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    during: list[object] = []

    def work() -> None:
        with listen() as stop:
            during.extend([signal.getsignal(signal.SIGTERM), bool(stop)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [before, False]
