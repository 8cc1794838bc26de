"""Which of our linear maps an adapter's patterns hit: LeRobot's module names, and PEFT's matching rules on them."""

from __future__ import annotations

from collections.abc import Sequence

from pi05.model.pi05 import Pi05


def resolve_targets(
    model: Pi05, target_modules: str | Sequence[str], exclude: str | Sequence[str] | None = None
) -> dict[str, str]:
    """Return our module name → LeRobot's module name for what the patterns hit, in the model's order."""
    raise NotImplementedError
