"""What is watched over the length of a run: the held-out error against the loss, the learning rate, the average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from pi05.finding import Finding, error, warning

RISEN = 1.05
"""Held-out error over its smallest, from which on it counts as risen."""
MEASUREMENTS = 3
"""Measurements in a row that must lie above."""
MOST_OF_START = 0.1
"""Share of the starting weights in their moving average at the end of a run from which on it is told."""


@dataclass
class Trend:
    """Held-out errors with the training loss at the time, in order; since the start or the last resume."""

    losses: list[float] = field(default_factory=list)
    """Mean training losses of the records since the last measurement."""
    points: list[tuple[int, float, float]] = field(default_factory=list)
    """Step, held-out error, training loss."""

    def add_losses(self, losses: list[float]) -> None:
        """Take in the losses of some steps."""
        self.losses += losses

    def measured(self, step: int, score: float) -> None:
        """Take in a held-out error."""
        loss = sum(self.losses) / len(self.losses) if self.losses else float("nan")
        self.points.append((step, score, loss))
        self.losses = []

    def judge(self) -> Iterator[Finding]:
        """Yield what to say of an error that rises while the loss falls."""
        if len(self.points) <= MEASUREMENTS:
            return
        best = min(self.points, key=lambda point: point[1])
        latest = self.points[-MEASUREMENTS:]
        rises = all(step > best[0] and score > RISEN * best[1] for step, score, _ in latest)
        if rises and latest[-1][2] < best[2]:
            _, score, loss = latest[-1]
            yield warning(
                "held-out.rising",
                f"the held-out action error has risen from {best[1]:.3f} (step {best[0]:,}) to {score:.3f}, "
                f"while the training loss fell from {best[2]:.3g} to {loss:.3g}",
                "the run learns its demonstrations by heart; each further step makes it worse on new ones",
                f"take checkpoints/best (step {best[0]:,}); train fewer steps, or on more demonstrations; LoRA and "
                "--augment help",
                {"best_step": best[0], "best": best[1], "now": score},
            )


def judge_rate(step: int, rate: float, planned: float) -> Iterator[Finding]:
    """Yield an error where a step was taken at another learning rate than the one that was announced."""
    if abs(rate - planned) > 1e-6 * max(rate, planned):
        yield error(
            "learning-rate.off-plan",
            f"step {step:,} was taken at a learning rate of {rate:.3g}, where the plan has {planned:.3g}",
            "the schedule does not run as it was announced",
            "stop, and report it: this is a fault of pi05",
            {"rate": rate, "planned": planned},
        )


def judge_average(decay: float, step: int, total_steps: int) -> Iterator[Finding]:
    """Yield what to say of a moving average that is slower than the run, when it is measured."""
    if (share := start_share(decay, total_steps)) is not None:
        yield warning(
            "average.slow",
            f"the held-out error is that of the average of the weights, of which {decay**step:.0%} are the weights at "
            f"the start (--ema.decay={decay:g}); at the end {share:.0%}",
            "what is measured and saved is mostly the base, whatever the run has learnt",
            faster_average(total_steps),
            {"share": decay**step, "share_at_end": share},
        )


def start_share(decay: float, total_steps: int) -> float | None:
    """Return how much of the average at the end of a run are the weights at its start; None where that is little."""
    share = decay**total_steps
    return share if share > MOST_OF_START else None


def faster_average(total_steps: int) -> str:
    """Return the flags that mend an average that is slower than the run."""
    moved = 3 / max(total_steps, 4)
    digit = 10.0 ** (math.floor(math.log10(moved)) - 1)
    decay = 1 - math.ceil(moved / digit - 1e-9) * digit  # never rounded up: it would leave more than it says
    return f"--ema.decay={decay:.9g} or lower leaves 5 %, --ema.enable=false none"
