"""The settings of what is recorded beside the run's own files. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pi05.settings.schema import Checked


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
class TrackioConfig(Checked):
    """Trackio, as a second place for what `metrics.jsonl` holds anyway; on this machine, unless a space is named."""

    FLAG_PREFIX: ClassVar[str] = "trackio."

    enable: bool = False
    """Keep metrics in Trackio as well; `trackio show` is its dashboard, live."""
    project: str = "pi05"
    """Trackio project."""
    space_id: str | None = None
    """Space on the hub that the metrics are sent to, OWNER/NAME; without it nothing leaves this machine."""
    private: bool = True
    """Make a new space private."""
    run_id: str | None = None
    """Trackio run to continue, by its name; a resumed run continues its own without it."""
    notes: str | None = None
    """Notes stored with the Trackio run's configuration."""

    def _limits(self) -> None:
        self._require(self.space_id is None or self.space_id.count("/") == 1, "space_id", "OWNER/NAME")
