"""The console of a run, which may go away without ending the run: `| head`, a killed `tee`, a full disk behind `>`.

What cannot be written is dropped, from then on to nowhere; `metrics.jsonl` has the records.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from pi05.terminal import PlainConsole


class LastingStream:
    """A text stream that outlives its reader."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text where nobody can take it."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush, if anybody can take it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        """Lead the stream to nowhere, also for what Python itself still writes to it at the end."""
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def run_console(*, quiet: bool) -> PlainConsole:
    """Return the console of a run, on standard output."""
    return PlainConsole(quiet=quiet, file=LastingStream(sys.stdout))
