"""What the sinks that wrap a tracker's package share: the numbers of a record, and work that may not hold up a run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pi05.train.records.sinks import Record

_NO_NUMBERS = ("type", "step", "text")


def numbers_of(record: Record) -> dict[str, float | int]:
    """Return what a tracker gets of a record: its numbers, as `type/name`."""
    return {f"{record['type']}/{name}": value for name, value in flatten(record) if name not in _NO_NUMBERS}


def flatten(record: Record, prefix: str = "") -> list[tuple[str, float | int]]:
    """Return the numbers of a nested record under slash-joined names; text, lists and missing values are left out."""
    found: list[tuple[str, float | int]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + name, value))
    return found


def within(work: Callable[[], object], seconds: float) -> bool:
    """Do `work` in the background; return whether it ended in time, without an exception."""
    outcome: list[bool] = []

    def run() -> None:
        try:
            work()
            outcome.append(True)
        except Exception:
            outcome.append(False)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome == [True]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
