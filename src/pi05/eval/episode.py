"""One episode of an evaluation, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["success", "failure", "error"]
"""`error`: the simulator raised an exception, which says nothing about the policy."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """One episode. `asked` differs from `instruction` when the instruction was swapped."""

    index: int
    seed: int
    instruction: str
    asked: str
    outcome: Outcome
    steps: int
    swapped_success: bool | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the episode as plain data."""
        return dict(self.__dict__)
