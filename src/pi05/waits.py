"""Nobody waits longer than three seconds without reading what for.

Leaves out work that counts something: that has a bar, or lines of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AFTER_S = 3.0


@contextmanager
def waiting(what: str, say: Callable[[str], None], after_s: float = AFTER_S) -> Iterator[None]:
    """Say what is done in this block once it has taken some seconds, and in the end how long it took.

    `say` is called from another thread. A block that fails says nothing more.
    """
    started = time.monotonic()
    lock, told = threading.Lock(), threading.Event()

    def tell() -> None:
        with lock:
            if not over.is_set():
                told.set()
                say(f"{what} …")

    over = threading.Event()
    timer = threading.Timer(after_s, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over.set()
    if told.is_set():
        say(f"{what}: took {time.monotonic() - started:.0f} s")
