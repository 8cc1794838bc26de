"""The settings of the average of the weights. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pi05.settings.schema import Checked


@dataclass(frozen=True, kw_only=True)
class EmaConfig(Checked):
    """Exponential moving average of the weights, the copy that is evaluated and saved."""

    FLAG_PREFIX: ClassVar[str] = "ema."

    enable: bool = False
    """Keep a moving average of the weights in float32; costs one more copy of the trainable parameters."""
    decay: float = 0.99
    """Weight of the old average in each step, above 0 and below 1."""

    def _limits(self) -> None:
        self._require(0 < self.decay < 1, "decay", "a number above 0 and below 1")
