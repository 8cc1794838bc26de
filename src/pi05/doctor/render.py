"""Findings as people read them, 80 columns wide, and as JSON for machines.

A command is never broken into lines, so that it can be copied. No package is needed: the installation may be broken.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence

from pi05.finding import Finding, exit_code

COLOURS = {"ok": "32", "note": "36", "warning": "33", "error": "31"}
STATUS_WIDTH, SUBJECT_WIDTH = 9, 11
INDENT = " " * (STATUS_WIDTH + SUBJECT_WIDTH)


def render(findings: Sequence[Finding], *, width: int = 80, colour: bool = False, short: bool = False) -> str:
    """Return the report; `short` leaves out what is well, and what is only worth knowing."""
    shown = [finding for finding in findings if finding.to_mend or not short]
    blocks = [render_finding(finding, width, colour) for finding in shown]
    return "\n".join([*blocks, *([""] if blocks else []), summary(findings, short)])


def render_finding(finding: Finding, width: int = 80, colour: bool = False) -> str:
    """Return one finding: a line; where there is more to say, what it does to a run, and what mends it."""
    status = f"{finding.status:<{STATUS_WIDTH}}"
    if colour:
        status = f"\x1b[{COLOURS[finding.status]}m{status}\x1b[0m"
    first, *rest = textwrap.wrap(
        finding.text, max(20, width - len(INDENT)), break_long_words=False, break_on_hyphens=False
    ) or [""]
    lines = [f"{status}{finding.subject:<{SUBJECT_WIDTH}}{first}", *(INDENT + line for line in rest)]
    if finding.effect:
        effect = textwrap.wrap(
            f"a run {finding.effect}", max(20, width - len(INDENT)), break_long_words=False, break_on_hyphens=False
        )
        lines += [INDENT + line for line in effect]
    if finding.remedy:
        lines.append(f"{INDENT}to do: {finding.remedy}")
    return "\n".join(lines)


def summary(findings: Sequence[Finding], short: bool = False) -> str:
    """Return the end of the report: how much there is to mend."""
    errors = sum(finding.status == "error" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    more = "\n(pi05 doctor looks at network, kernels and simulators as well)" if short else ""
    if not errors + warnings:
        notes = [finding.text for finding in findings if finding.name == "gpu.none"]
        return f"doctor: nothing to mend{''.join(f' ({text})' for text in notes) if short else ''}{more}"
    counts = [f"{errors} error{'s' * (errors > 1)}"] * bool(errors)
    counts += [f"{warnings} warning{'s' * (warnings > 1)}"] * bool(warnings)
    return f"doctor: {' and '.join(counts)} to mend{more}"


def to_json(findings: Sequence[Finding], versions: Mapping[str, str]) -> str:
    """Return the report for machines: findings, whether there is something to mend, and what was compared."""
    report = {
        "to_mend": bool(exit_code(findings)),
        "findings": [finding.to_dict() for finding in findings],
        "versions": dict(versions),
    }
    return json.dumps(report, indent=2, ensure_ascii=False)
