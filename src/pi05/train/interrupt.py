"""Ctrl-C, SIGTERM and SIGHUP as a wish: the step in progress is finished, the run is saved, then it ends.

SIGTERM is how Slurm and clouds announce a preemption.

Under torchrun one wish comes twice: from the terminal or from Slurm, and once more from torchrun, which passes it on.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; an order to end, from Slurm, a cloud or `kill`; a terminal that was closed."""
PASSED_ON_SECONDS = 5
"""How long after a signal its repetition by torchrun may come."""


class StopRequest:
    """Whether a signal has asked the run to end, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.time = 0.0

    def __bool__(self) -> bool:
        return self.signal is not None

    def agreed(self, ask_all: Callable[[bool], bool]) -> bool:
        """Return whether a signal has reached any of the processes that `ask_all` asks; then it counts here too.

        A signal that comes while they are asked is one for the next time: the others do not know of it, and a process
        that ends by what it alone knows leaves them waiting for ever.
        """
        stopped = ask_all(bool(self))
        if stopped and self.signal is None:
            self.signal = signal.SIGTERM
        return stopped

    @property
    def name(self) -> str:
        """Name of the signal, as a user knows it."""
        if self.signal is None:
            return "nothing"
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name


class Interrupted(KeyboardInterrupt):
    """The run was interrupted, saved, and can be resumed. The command line ends with code 130."""


@contextmanager
def listen(passed_on: bool = False) -> Iterator[StopRequest]:
    """Take SIGINT, SIGTERM and SIGHUP as requests for the duration of a `with` block; a second Ctrl-C ends at once.

    A second SIGTERM or SIGHUP changes nothing: the run is being saved already. Where signals are `passed_on` by a
    launcher, a Ctrl-C within the next seconds is the same one. A signal that is ignored (`nohup`) stays ignored.

    Outside the main thread signals cannot be taken; then they do what they did before.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if request.signal is None:
            request.signal, request.time = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and (not passed_on or time.monotonic() - request.time > PASSED_ON_SECONDS):
            raise KeyboardInterrupt

    heeded = [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, so that its half-written files go and its children end.

    Not under torchrun: there a process that waits for the others in compiled code must end at once.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if "TORCHELASTIC_RUN_ID" in os.environ or threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
