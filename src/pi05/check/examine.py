"""Run the families of checks in their order, and judge what they found by what the user passes over.

A family is one function: it looks at a subject and yields findings. Those that are quick take seconds and open no
picture; `pi05 train` runs these. Leaves out opening a set that is broken (`opening.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pi05.check.chosen_base import check_base
from pi05.check.config import as_names
from pi05.check.language import check_language
from pi05.check.numbers.family import check_numbers
from pi05.check.opening import finding_of
from pi05.check.pictures.family import check_pictures
from pi05.check.recipe import check_recipe
from pi05.check.structure import check_structure
from pi05.check.subject import Subject
from pi05.check.video_counts import check_video_counts
from pi05.errors import UserError
from pi05.finding import Finding

Progress = Callable[[int, int, str], None]
"""Hears how many of how many are done, and of what."""


@dataclass(frozen=True)
class Family:
    """Checks that belong together."""

    title: str
    """What is looked at, for the progress bar."""
    check: Callable[[Subject, Progress], Iterator[Finding]]
    quick: bool = True


FAMILIES = (
    Family("files, clocks and episodes", lambda subject, _: check_structure(subject)),
    Family("states and actions", lambda subject, _: check_numbers(subject)),
    Family("tasks", lambda subject, _: check_language(subject)),
    Family("the recipe on this data", lambda subject, _: check_recipe(subject)),
    Family("the base", lambda subject, _: check_base(subject)),
    Family("headers of videos", check_video_counts, quick=False),
    Family("pictures", check_pictures, quick=False),
)


def unheard(done: int, total: int, what: str) -> None:
    """Let nobody hear of the progress."""


def examine(subject: Subject, *, quick: bool = False, progress: Progress = unheard) -> list[Finding]:
    """Return what is found, in the order in which it is read; `quick`: what takes seconds and opens no picture.

    What a family cannot read is a finding too.
    """
    findings: list[Finding] = []
    for family in FAMILIES:
        if quick and not family.quick:
            continue
        progress(0, 1, family.title)
        try:
            findings += family.check(subject, progress)
        except UserError as fault:
            findings.append(finding_of(fault))
    return findings


@dataclass(frozen=True)
class Verdict:
    """Findings, those that were passed over told as warnings."""

    findings: list[Finding]
    passed: tuple[str, ...]
    """Names of the errors that were passed over."""

    @property
    def refused(self) -> list[Finding]:
        """Errors that nobody passes over."""
        return [finding for finding in self.findings if finding.status == "error"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the record of a run: all but what is well."""
        findings = [finding.to_dict() for finding in self.findings if finding.status != "ok"]
        return {"passed": list(self.passed), "findings": findings}

    def beside(self, findings: list[Finding]) -> Verdict:
        """Return it with more findings, none of them an error."""
        return Verdict([*self.findings, *findings], self.passed)

    def of(self, status: str) -> list[Finding]:
        """Return the findings of one severity."""
        return [finding for finding in self.findings if finding.status == status]


def judge(findings: Iterable[Finding], allow: Collection[str]) -> Verdict:
    """Return the findings with those errors turned into warnings that `allow` names."""
    names, judged, passed = as_names(tuple(allow)), list[Finding](), list[str]()
    for finding in findings:
        if finding.status == "error" and finding.name in names:
            passed.append(finding.name)
            finding = replace(finding, status="warning", text=f"passed over with --allow: {finding.text}")
        judged.append(finding)
    return Verdict(judged, tuple(dict.fromkeys(passed)))
