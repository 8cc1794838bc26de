"""Findings as people read them, 80 columns wide, and as JSON for machines: of `pi05 doctor` and of `pi05 check`.

A command is never broken into lines, so that it can be copied. No package is needed: the installation may be broken.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pi05.errors import visible
from pi05.finding import Finding

COLOURS = {"ok": "32", "note": "36", "warning": "33", "error": "31"}
STATUS_WIDTH, SUBJECT_WIDTH = 9, 11
INDENT = " " * (STATUS_WIDTH + SUBJECT_WIDTH)


def render(
    findings: Sequence[Finding],
    who: str,
    *,
    width: int = 80,
    colour: bool = False,
    short: bool = False,
    names: bool = False,
    more: str = "",
) -> str:
    """Return the report of a command, `who`; `more` is what a short one has not looked at.

    `short` leaves out what is well, and what is only worth knowing; `names` tells the findings' whole names.
    """
    shown = [finding for finding in findings if finding.to_mend or not short]
    blocks = [render_finding(finding, width, colour, names) for finding in shown]
    return "\n".join([*blocks, *([""] if blocks else []), summary(findings, who, short=short, more=more)])


def for_terminal(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings whose words act on no terminal: the colours are this program's own, what is named may not be."""
    return [replace(f, text=visible(f.text), effect=visible(f.effect), remedy=visible(f.remedy)) for f in findings]


def render_finding(finding: Finding, width: int = 80, colour: bool = False, names: bool = False) -> str:
    """Return one finding: a line; where there is more to say, what it does to a run, and what mends it.

    With `names` its whole name stands above it, which is what --allow takes.
    """
    status = f"{finding.status:<{STATUS_WIDTH}}"
    if colour:
        status = f"\x1b[{COLOURS[finding.status]}m{status}\x1b[0m"
    indent = " " * STATUS_WIDTH if names else INDENT
    told = [*_wrap(finding.text, width - len(indent)), *_wrap(_of_run(finding.effect), width - len(indent))]
    if finding.remedy:
        told.append(f"to do: {finding.remedy}")
    first = finding.name if names else f"{finding.subject:<{SUBJECT_WIDTH}}{told.pop(0) if told else ''}"
    return "\n".join([f"{status}{first}", *(indent + line for line in told)])


def _of_run(effect: str) -> str:
    return f"a run {effect}" if effect else ""


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(20, width), break_long_words=False, break_on_hyphens=False)


def summary(findings: Sequence[Finding], who: str, *, short: bool = False, more: str = "") -> str:
    """Return the end of the report: how much there is to mend."""
    errors = sum(finding.status == "error" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    rest = f"\n({more})" if more else ""
    if not errors + warnings:
        notes = [finding.text for finding in findings if finding.name == "gpu.none"]
        return f"{who}: nothing to mend{''.join(f' ({text})' for text in notes) if short else ''}{rest}"
    counts = [f"{errors} error{'s' * (errors > 1)}"] * bool(errors)
    counts += [f"{warnings} warning{'s' * (warnings > 1)}"] * bool(warnings)
    return f"{who}: {' and '.join(counts)} to mend{rest}"


def to_json(findings: Sequence[Finding], *, to_mend: bool, **facts: Any) -> str:
    """Return the report for machines: findings, whether there is something to mend, and facts beside them."""
    report = {"to_mend": to_mend, "findings": [finding.to_dict() for finding in findings], **facts}
    return json.dumps(report, indent=2, ensure_ascii=False)
