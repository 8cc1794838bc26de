"""Ctrl-C and SIGTERM as a wish: the step in progress is finished, the run is saved, then it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether a signal has asked the run to end, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def name(self) -> str:
        """Name of the signal, as a user knows it."""
        if self.signal is None:
            return "nothing"
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name


class Interrupted(KeyboardInterrupt):
    """The run was interrupted, saved, and can be resumed. The command line ends with code 130."""


@contextmanager
def listen() -> Iterator[StopRequest]:
    """Take SIGINT and SIGTERM as requests for the duration of a `with` block; a second Ctrl-C ends at once.

    Outside the main thread signals cannot be taken; then they do what they did before.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if request.signal is not None:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
