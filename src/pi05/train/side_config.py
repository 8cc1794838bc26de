"""The settings of what runs beside training and does not bend it: WandB, and the average of the weights. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pi05.settings import Checked


@dataclass(frozen=True, kw_only=True)
class WandbConfig(Checked):
    """Weights & Biases, as a second place for what `metrics.jsonl` holds anyway."""

    FLAG_PREFIX: ClassVar[str] = "wandb."

    enable: bool = False
    """Send metrics to Weights & Biases as well."""
    project: str = "pi05"
    """WandB project."""
    entity: str | None = None
    """WandB team or user; your default when not given."""
    mode: Literal["online", "offline", "disabled"] = "online"
    """Send at once, keep for `wandb sync`, or do nothing."""
    run_id: str | None = None
    """WandB run to continue; a resumed run continues its own without it."""
    notes: str | None = None
    """Notes stored with the WandB run."""


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
