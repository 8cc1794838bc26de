"""How far a transfer is, on standard error: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pi05.files import size_text

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts bytes and files of one transfer; may be told from several threads."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._lock = threading.Lock()
        self._name, self._bytes, self._files = "", 0, 0
        self._done = self._done_files = 0
        self._told = self._started = 0.0
        self._bar: Any = None
        self._task: Any = None

    def begin(self, name: str, size_bytes: int, files: int) -> None:
        """Start to count towards these totals."""
        self._name, self._bytes, self._files = name, size_bytes, files
        self._done = self._done_files = 0
        self._told = self._started = self._clock()
        self._say(f"fetching {name}: {files} files, {size_text(size_bytes)}")
        if sys.stderr.isatty():
            self._open_bar()

    def _open_bar(self) -> None:
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar

        from pi05.terminal import PlainConsole

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=PlainConsole(stderr=True), transient=True)
        self._task = self._bar.add_task(self._name, total=self._bytes)
        self._bar.start()

    def advance(self, count: int) -> None:
        """Count bytes that have arrived; negative ones are thrown away."""
        with self._lock:
            self._done += count
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done)
            elif self._clock() - self._told >= SECONDS_BETWEEN_LINES:
                self._told = self._clock()
                self._say(f"{self._name}: {self._state()}")

    def finish_file(self) -> None:
        """Count a file that is whole."""
        with self._lock:
            self._done_files += 1

    def _state(self) -> str:
        share = self._done / self._bytes if self._bytes else 1.0
        speed = self._done / max(1e-6, self._clock() - self._started)
        return (
            f"{share:.0%}, {size_text(self._done)} of {size_text(self._bytes)}, {self._done_files} of {self._files} "
            f"files, {size_text(int(speed))}/s"
        )

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
