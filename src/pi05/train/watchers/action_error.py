"""The held-out action error of a run: as a record for the sinks, and as lines for the console.

A policy is measured beside what needs no learning; praise is against the best of those. Leaves out the predictions
(`train/validate.py`) and the numbers (`data/measures/`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from pi05.data.measures.baselines import MEAN_ACTION
from pi05.data.measures.chunk_error import ChunkError


@dataclass(frozen=True, kw_only=True)
class ActionError:
    """The held-out error of a policy, and of what needs no learning on the same frames."""

    names: tuple[str, ...]
    policy: ChunkError
    baselines: Mapping[str, ChunkError]
    """By name; `MEAN_ACTION` is always there."""
    scale: Float[np.ndarray, " n"]
    """Standard deviation of the training actions; 0 for a constant dimension."""
    frames: int
    episodes: int
    seconds: float
    effects: Mapping[str, float] = field(default_factory=dict)
    """How far the actions move without an input, in standard deviations (`ablations.py`)."""

    @property
    def score(self) -> float:
        """Error in standard deviations, averaged over the dimensions that vary."""
        return self.policy.score

    @property
    def best_baseline(self) -> str:
        """Name of the baseline with the smallest error."""
        return min(self.baselines, key=lambda name: self.baselines[name].score)

    def record(self, step: int, best: bool) -> dict[str, Any]:
        """Return the record for the sinks, with the text for the console."""
        mean, least = self.baselines[MEAN_ACTION], self.baselines[self.best_baseline]
        dimensions = {
            name: {
                "error": float(self.policy.error[i]),
                "baseline": float(mean.error[i]),
                "best_baseline": float(least.error[i]),
                "deviation": float(self.scale[i]),
            }
            for i, name in enumerate(self.names)
        }
        return {
            "type": "eval",
            "step": step,
            "action_error": self.score,
            "baseline_error": mean.score,
            "best_baseline_error": least.score,
            "best_baseline": self.best_baseline,
            "baselines": {name: measured.score for name, measured in self.baselines.items()},
            "best": best,
            "frames": self.frames,
            "episodes": self.episodes,
            "seconds": self.seconds,
            "dimensions": dimensions,
            "error_at": self._at_some_steps(),
            "error_by_step": {
                "policy": self.policy.by_step.tolist(),
                **{name: measured.by_step.tolist() for name, measured in self.baselines.items()},
            },
            "effects": {name: float(value) for name, value in self.effects.items()},
            "text": self.render(step, best),
        }

    def _at_some_steps(self) -> dict[str, float]:
        """Return the policy's error at the first, the middle and the last step: what a tracker can draw over a run."""
        by_step = self.policy.by_step
        places = {"first": 0, "middle": len(by_step) // 2, "last": len(by_step) - 1}
        return {name: float(by_step[i]) for name, i in places.items() if math.isfinite(by_step[i])}

    def render(self, step: int, best: bool) -> str:
        """Return a few lines: the verdict, each dimension, what each input does."""
        ranked = sorted(self.baselines, key=lambda name: self.baselines[name].score)
        least = ranked[0]
        verdict = "better than" if self.score < self.baselines[least].score else "no better than"
        others = ", ".join(f"{name} {self.baselines[name].score:.3f}" for name in ranked[1:])
        dimensions = ", ".join(
            f"{name} {error:.3g} ({baseline:.3g})"
            for name, error, baseline in zip(self.names, self.policy.error, self.baselines[least].error, strict=True)
        )
        lines = [
            f"held out, step {step:,}: action error {self.score:.3f} standard deviations, {verdict} the best baseline, "
            f"{least} {self.baselines[least].score:.3f}{f' ({others})' * bool(others)}{', best so far' * best}",
            f"  root mean square error in robot units (of the best baseline): {dimensions}",
        ]
        if self.effects:
            moved = ", ".join(f"{name} {value:.3f}" for name, value in self.effects.items())
            lines.append(f"  without each input the actions move, in standard deviations: {moved}")
        return "\n".join(lines)
