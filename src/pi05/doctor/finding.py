"""A finding of `pi05 doctor`: what is so, what it will do to a run, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "note", "warning", "error"]
"""`note`: worth knowing, and nothing to mend. `warning`: some runs suffer. `error`: runs fail."""


@dataclass(frozen=True)
class Finding:
    """One line about the machine."""

    name: str
    """SUBJECT.WHAT, the same on every machine."""
    status: Status
    text: str
    """What is so, or what is wrong."""
    effect: str = ""
    """What that will do to a run."""
    remedy: str = ""
    """The command that mends it on this machine, or what to change."""

    @property
    def subject(self) -> str:
        """What it is about: gpu, torch, hub and so on."""
        return self.name.partition(".")[0]

    @property
    def to_mend(self) -> bool:
        """Whether there is something to mend."""
        return self.status in ("warning", "error")

    def to_dict(self) -> dict[str, str]:
        """Return plain data."""
        return asdict(self)


def ok(name: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(name, "ok", text)


def note(name: str, text: str, effect: str = "", remedy: str = "") -> Finding:
    """Return a finding with nothing to mend; a remedy is for those who want it otherwise."""
    return Finding(name, "note", text, effect, remedy)


def warning(name: str, text: str, effect: str, remedy: str) -> Finding:
    """Return a finding from which some runs suffer."""
    return Finding(name, "warning", text, effect, remedy)


def error(name: str, text: str, effect: str, remedy: str) -> Finding:
    """Return a finding from which runs fail."""
    return Finding(name, "error", text, effect, remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 when there is nothing to mend, else 1."""
    return int(any(finding.to_mend for finding in findings))
