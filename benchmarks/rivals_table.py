"""Who finds what in altered copies: what of a checker's words counts, and the table of `check_rivals.py`'s results."""

from __future__ import annotations

import re
from typing import Any

Said = list[tuple[str, str]]
"""(error, warning or note, message) of a checker about a set; what is well is left out."""
SEVERITY = ("note", "warning", "error")
OURS = "pi05 check"
NAME = r"(\[\d+\]|\b(?:joint|dim|dims|dimension|dimensions) \d+)"
NUMBER = re.compile(NAME + r"|(?<!\w)[-−+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)
SEVERAL = re.compile(r"#(?:(?:, | and |, and )#)+")


def said_anew(said: Said, sound: Said) -> Said:
    """Return what is said of a copy and not of the original, or more severely than there."""
    known: dict[str, int] = {}
    for status, message in sound:
        key = nameless(message)
        known[key] = max(known.get(key, -1), SEVERITY.index(status))
    return [each for each in said if SEVERITY.index(each[0]) > known.get(nameless(each[1]), -1)]


def nameless(message: str) -> str:
    """Return a message without what differs from run to run: measurements, episodes and paths."""
    message = NUMBER.sub(lambda found: found[1] or "#", re.sub(r"\S*/\S+", "PATH", message))
    return SEVERAL.sub("#", message)


def worst(said: Said) -> str:
    """Return the severest status, or nothing."""
    return max((status for status, _ in said), key=SEVERITY.index, default="")


def table(result: dict[str, Any]) -> str:
    """Return the table of `docs/check.md`."""
    tools = [OURS, *result["versions"]]
    heads = [f"{name} {result['versions'].get(name, '')}".strip() for name in tools]
    lines = [["mistake", *heads], ["---"] * (len(tools) + 1)]
    for name, what in result["mistakes"].items():
        there = {key: each["copies"][name] for key, each in result["sets"].items() if name in each["copies"]}
        if there:
            cells = [", ".join(_cell(new, tool) for new in there.values()) for tool in tools]
            lines.append([f"{what} ({', '.join(there)})", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *_totals(result, tools)])


def _cell(new: dict[str, Said], tool: str) -> str:
    return (worst(new[tool]) or "–") if tool in new else "not run"


def _totals(result: dict[str, Any], tools: list[str]) -> list[list[str]]:
    """Return the rows below: of how many copies something new was said, and what was said of the sound originals."""
    sets = result["sets"].values()
    found, said = list[str](), list[str]()
    for tool in tools:
        news = [new[tool] for each in sets for new in each["copies"].values() if tool in new]
        told = sum(worst(new) in ("error", "warning") for new in news)
        found.append(f"**{told} of {len(news)}**")
        statuses = [status for each in sets for status, _ in each["sound"].get(tool, [])]
        said.append(f"{statuses.count('error')} errors, {statuses.count('warning')} warnings")
    return [["all", *found], [f"said of the {len(result['sets'])} sound originals", *said]]
