"""What a success rate should be, and the verdict of a demonstration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pi05.eval.result import SuccessRate


@dataclass(frozen=True, kw_only=True)
class SuccessGoal:
    """What a success rate should be, and what it is."""

    name: str
    rate: SuccessRate
    limit: float
    at_least: bool
    strict: bool = False

    @property
    def met(self) -> bool:
        """Whether the rate keeps to its limit; a rate without episodes does not."""
        value = self.rate.value
        if value is None:
            return False
        if self.at_least:
            return value >= self.limit
        return value < self.limit if self.strict else value <= self.limit

    @property
    def wanted(self) -> str:
        """The limit in words."""
        word = "at least" if self.at_least else "under" if self.strict else "at most"
        return f"{word} {self.limit:.0%}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"name": self.name, **self.rate.to_dict(), "goal": self.wanted, "met": self.met}


def render_goals(goals: Sequence[SuccessGoal]) -> str:
    """Return measured numbers and goals, and the verdict."""
    rows = ["Goals"]
    for goal in goals:
        rows.append(
            f"  {'met   ' if goal.met else 'MISSED'}  {goal.name} ({goal.wanted})\n          {goal.rate.render()}"
        )
    missed = [goal.name for goal in goals if not goal.met]
    rows.append(
        "all goals are met" if not missed else f"MISSED {len(missed)} of {len(goals)} goals: {'; '.join(missed)}"
    )
    return "\n".join(rows)
