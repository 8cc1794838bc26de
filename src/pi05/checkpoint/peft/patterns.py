"""Are the regular expressions of an adapter safe to run? They come with the file, and some never end.

Python's engine tries every way to split a text between repetitions: `(a+)+$` takes longer than anybody lives on a
module's name. So a pattern is looked at before it is run: no repetition or choice inside a repetition without end, and
few repetitions in a row. PEFT's and LeRobot's own patterns have one or two.
"""

from __future__ import annotations

import re
from typing import Any

MOST_REPEATS, LONGEST = 4, 4000
FEW = 2
"""Repetitions up to this often are no danger: `(...)?` is one."""

_parser: Any = getattr(re, "_parser")  # noqa: B009 (no type information)
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}


def danger(pattern: str) -> str | None:
    """Return why a pattern must not be run; None for a safe one. Raises re.error for what is no pattern."""
    if len(pattern) > LONGEST:
        return f"a pattern of {len(pattern):,} characters, more than {LONGEST:,}"
    try:
        re.compile(pattern)
        repeats, nested = _look(_parser.parse(pattern), inside=False)
    except (RecursionError, OverflowError) as error:
        return f"a pattern that cannot be compiled: {error}"
    if nested:
        return "a repetition or a choice inside a repetition"
    if repeats > MOST_REPEATS:
        return f"{repeats} repetitions in a row, more than {MOST_REPEATS}"
    return None


def _look(parsed: Any, *, inside: bool) -> tuple[int, bool]:
    """Return how many repetitions one way through a pattern has, and whether one lies in another."""
    count, nested = 0, False
    for operation, argument in parsed:
        name = str(operation)
        if name in _REPEATS:
            _, most, body = argument
            endless = most > FEW
            nested |= inside and endless
            inner, below = _look(body, inside=inside or endless)
            count, nested = count + inner + endless, nested or below
        elif name == "BRANCH":
            ways = [_look(way, inside=inside) for way in argument[1]]
            count += max(way[0] for way in ways)
            nested |= inside or any(way[1] for way in ways)
        elif name in ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT", "GROUPREF_EXISTS"):
            parts = (
                argument[1:] if name == "GROUPREF_EXISTS" else [argument if name == "ATOMIC_GROUP" else argument[-1]]
            )
            for part in parts:
                if part is not None:
                    inner, below = _look(part, inside=inside)
                    count, nested = count + inner, nested or below
    return count, nested
