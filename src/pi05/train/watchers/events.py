"""Findings of a run, each told once per event: when it begins, not at every record for as long as it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pi05.finding import Finding

QUIET = 5
"""Looks in a row that must find nothing before the same finding is a new event: what hovers at a threshold is one."""
MOST_TOLD = 5
"""Events of one name that get a line on the console; the file has all."""

Record = Mapping[str, Any]


class Events:
    """Passes findings on to the records of a run."""

    def __init__(self, log: Callable[[Record], None]) -> None:
        self._log = log
        self._absent: dict[str, int] = {}
        self._told: dict[str, int] = {}

    def look(self, subjects: Iterable[str], findings: Iterable[Finding], step: int) -> None:
        """Tell those findings of these subjects that were not there at the looks before."""
        present = {key_of(finding): finding for finding in findings}
        watched = tuple(subjects)
        for key in list(self._absent):
            if key not in present and key.startswith(watched):
                self._absent[key] += 1
                if self._absent[key] >= QUIET:
                    del self._absent[key]
        for key, finding in present.items():
            if key not in self._absent:
                self._tell(finding, step)
            self._absent[key] = 0

    def _tell(self, finding: Finding, step: int) -> None:
        self._told[finding.name] = self._told.get(finding.name, 0) + 1
        record = {"type": "watch", "step": step, **finding.to_dict()}
        if self._told[finding.name] > MOST_TOLD:
            record["words"] = record.pop("text")
        else:
            record["text"] = sentence(finding)
            record["words"] = finding.text
        self._log(record)


def key_of(finding: Finding) -> str:
    """Return what makes two findings the same event: their name, and what they are about; a spike is its own."""
    about = sorted(map(str, finding.numbers)) if finding.name != "loss.spike" else [str(finding.numbers.get("step"))]
    return f"{finding.name}: {', '.join(about)}"


def sentence(finding: Finding) -> str:
    """Return the lines for the console: what was measured, what it means, what to do."""
    lines = [f"{finding.status}: {finding.text}"]
    lines += [f"  what it means: {finding.effect}"] if finding.effect else []
    lines += [f"  to do: {finding.remedy}"] if finding.remedy else []
    return "\n".join(lines)
