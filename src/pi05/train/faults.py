"""What stops a run: a loss or gradient that is not finite, named down to batch, episode and dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch

from pi05.errors import TrainingError
from pi05.train.device.attention_probe import suspect_attention
from pi05.train.device.readback import Readback
from pi05.train.parallel.ranks import Ranks
from pi05.train.records.metrics import non_finite
from pi05.train.step import StepResult

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class BatchOrigin:
    """Which frames of which episodes a step saw, sample by sample."""

    frames: Sequence[int]
    episodes: Sequence[int]


@dataclass(frozen=True)
class UncheckedStep:
    """A step whose loss and gradient nobody has looked at yet; they are on their way from the device."""

    result: StepResult
    origin: BatchOrigin
    numbers: Readback = field(init=False)

    def __post_init__(self) -> None:
        sent = torch.stack([self.result.loss, self.result.grad_norm])
        object.__setattr__(self, "numbers", Readback(sent))

    def require_finite(self, action_names: Sequence[str], ranks: Ranks) -> None:
        """Do what `require_finite_on_all` does. Waits for this step, not for those that were queued after it."""
        if not all(map(math.isfinite, self.numbers.read())):
            require_finite_on_all(self.result, self.origin, action_names, ranks)


def require_finite_on_all(result: StepResult, origin: BatchOrigin, action_names: Sequence[str], ranks: Ranks) -> None:
    """Do what `require_finite` does for the samples of all processes; the same error is raised in all of them.

    Loss and gradient norm are those of all processes, so all find a fault in the same step.
    """
    finite = torch.isfinite(torch.stack([result.loss, result.grad_norm])).all()
    if ranks.several and not bool(finite):
        parts = ranks.gather(
            (result.sample_losses.cpu(), result.dimension_losses.cpu(), list(origin.frames), list(origin.episodes))
        )
        losses, dimensions, frames, episodes = zip(*parts, strict=True)
        result = replace(result, sample_losses=torch.cat(losses), dimension_losses=torch.stack(dimensions).sum(dim=0))
        origin = BatchOrigin(frames=[*chain(*frames)], episodes=[*chain(*episodes)])
    require_finite(result, origin, action_names)


def require_finite(result: StepResult, origin: BatchOrigin, action_names: Sequence[str]) -> None:
    """Raise TrainingError when the step's loss or gradient is NaN or infinite. Waits for the device."""
    numbers = torch.stack([result.loss, result.grad_norm])
    if bool(torch.isfinite(numbers).all()):
        return
    loss, grad_norm = numbers.tolist()
    if torch.isfinite(result.loss):
        suspect = suspect_attention()
        raise TrainingError(
            f"the gradient is not finite at step {result.step}, though the loss is",
            wanted="a finite gradient norm",
            found=f"gradient norm {grad_norm}, loss {loss}; {_all_samples(origin)}",
            remedy="resume with a lower --policy.optimizer_lr or --precision float32"
            + (f", {suspect}" if suspect else "")
            + "; no checkpoint was overwritten",
        )
    samples = non_finite(result.sample_losses)
    dimensions = non_finite(result.dimension_losses)
    named = [_dimension(index, action_names) for index in dimensions]
    found = f"loss {loss}; {_samples(samples, origin)}; {_listed('action dimension', named)}"
    if len(samples) == len(origin.frames) and len(origin.frames) > 1:
        remedy = "every sample is affected: lower --policy.optimizer_lr, or look for damaged weights in the base"
    else:
        episodes = sorted({origin.episodes[index] for index in samples})
        remedy = f"look at these frames, or leave them out: --dataset.exclude_episodes '{episodes}'"
    raise TrainingError(
        f"the loss is not finite at step {result.step}; no checkpoint was overwritten",
        wanted="a finite loss",
        found=found,
        remedy=remedy,
    )


def _samples(indices: list[int], origin: BatchOrigin) -> str:
    named = [f"frame {origin.frames[i]} (episode {origin.episodes[i]})" for i in indices]
    return _listed(f"{len(indices)} of {len(origin.frames)} samples", named)


def _all_samples(origin: BatchOrigin) -> str:
    return _samples(list(range(len(origin.frames))), origin)


def _dimension(index: int, names: Sequence[str]) -> str:
    return f"{index} ({names[index]})" if index < len(names) else str(index)


def _listed(title: str, entries: list[str]) -> str:
    more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
    return f"{title}: {', '.join(entries[:SHOWN]) or 'none'}{more}"
