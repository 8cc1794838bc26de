"""When and where a run was trained: one entry for each time that it was started or resumed, in `history.json`.

The metrics carry steps and durations, not dates; a number that is published needs both the date and the machine.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pi05
from pi05.files import parse_object, write_json
from pi05.machine import machine_info
from pi05.settings.fields import find_fault
from pi05.train.records.fields import History

HISTORY = "history.json"

logger = logging.getLogger(__name__)


def open_session(root: Path, step: int, device: str) -> None:
    """Note that training starts or goes on at `step`, on this machine."""
    entry = {
        "started": now(),
        "first_step": step,
        "ended": None,
        "last_step": None,
        "status": "running or killed",
        "device": device,
        "pi05": pi05.__version__,
        "machine": machine_info(),
    }
    _write(root, [*read_history(root), entry])


def close_session(root: Path, step: int, status: str) -> None:
    """Note that training ended after `step`; `status` is finished, interrupted or failed.

    A full disk, which may be what ended it, is only logged: it must not hide the error of the run.
    """
    sessions = read_history(root)
    if not sessions:
        return
    sessions[-1] |= {"ended": now(), "last_step": step, "status": status}
    try:
        _write(root, sessions)
    except OSError as error:
        logger.warning("%s could not be written: %s", root / HISTORY, error)


def read_history(root: Path) -> list[dict[str, Any]]:
    """Return the entries, oldest first; none for a run of a version that did not note them, or a damaged file."""
    try:
        value = parse_object(root / HISTORY)
    except (OSError, ValueError):
        return []
    return value.get("sessions", []) if find_fault(History, value) is None else []


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(root: Path, sessions: list[dict[str, Any]]) -> None:
    write_json(root / HISTORY, {"sessions": sessions})
