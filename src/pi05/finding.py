"""A finding: what is so, what it will do to a run, and what mends it. Those of `pi05 doctor` and of `pi05 check`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "note", "warning", "error"]
"""`note`: worth knowing, and nothing to mend. `warning`: some runs suffer. `error`: runs fail."""


@dataclass(frozen=True)
class Finding:
    """One line about the machine, or about data, base and recipe."""

    name: str
    """SUBJECT.WHAT, the same on every machine and for every data set."""
    status: Status
    text: str
    """What is so, or what is wrong, with what was measured."""
    effect: str = ""
    """What that will do to a run: words that go on after "a run", such as "learns to stand still"."""
    remedy: str = ""
    """The command or flag that mends it, or what to change."""
    numbers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What was measured, as plain data: episodes, dimensions, values."""

    @property
    def subject(self) -> str:
        """What it is about: gpu, torch, hub; structure, numbers, pictures and so on."""
        return self.name.partition(".")[0]

    @property
    def to_mend(self) -> bool:
        """Whether there is something to mend."""
        return self.status in ("warning", "error")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as JSON holds it: numbers that are none are texts."""
        plain = asdict(self)
        if self.numbers:
            return {**plain, "numbers": _as_json(plain["numbers"])}
        del plain["numbers"]
        return plain


def _as_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _as_json(inner) for name, inner in value.items()}
    return [_as_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def ok(name: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(name, "ok", text)


def note(name: str, text: str, effect: str = "", remedy: str = "", numbers: Mapping[str, Any] | None = None) -> Finding:
    """Return a finding with nothing to mend; a remedy is for those who want it otherwise."""
    return Finding(name, "note", text, effect, remedy, numbers or {})


def warning(name: str, text: str, effect: str, remedy: str, numbers: Mapping[str, Any] | None = None) -> Finding:
    """Return a finding from which some runs suffer."""
    return Finding(name, "warning", text, effect, remedy, numbers or {})


def error(name: str, text: str, effect: str, remedy: str, numbers: Mapping[str, Any] | None = None) -> Finding:
    """Return a finding from which runs fail."""
    return Finding(name, "error", text, effect, remedy, numbers or {})


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 when there is nothing to mend, else 1."""
    return int(any(finding.to_mend for finding in findings))
