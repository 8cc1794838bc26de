"""Is a training state sound? Before it is saved and after it is read: finite weights, averages and moments.

A NaN in one loaded moment would make all weights NaN within a step, and the checkpoint that follows worthless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from pi05.errors import CheckpointError, TrainingError
from pi05.train.parallel.shards import own_part
from pi05.train.step import TrainState

SECOND = "exp_avg_sq/"
"""Begins the name of a second moment, a mean of squares."""


def require_sound_before_saving(state: TrainState) -> None:
    """Raise TrainingError, the same in every process, where what is to be saved is not finite."""
    broken = _first(state.parallel.ranks.gather(find_unsound(state)))
    if broken is not None:
        raise TrainingError(
            f"the run's state is not finite at step {state.step}; no checkpoint was written",
            wanted="finite weights and moments",
            found=broken,
            remedy="resume from the last checkpoint with a lower --policy.optimizer_lr; earlier checkpoints are intact",
        )


def require_sound_after_reading(state: TrainState, saved_moments: int | None, source: str) -> None:
    """Raise CheckpointError where a checkpoint has brought values, or a number of moments, that no run has saved."""
    found = _first(state.parallel.ranks.gather(find_unsound(state)))
    moments = len(state.optimizer.tensors())
    if found is None and saved_moments is not None and moments != saved_moments:
        found = f"{moments} tensors of moments, of {saved_moments} that were saved"
    if found is None and saved_moments is None and moments == 0 and state.step > 0:
        found = f"no moments after {state.step:,} steps"
    if found is not None:
        raise CheckpointError(
            f"the training state in {source} is damaged",
            wanted="finite weights and all moments",
            found=found,
            remedy="use another checkpoint of the run, or copy it again",
        )


def find_unsound(state: TrainState) -> str | None:
    """Return what of this process's part is not finite, or negative where it is a mean of squares; None: nothing."""
    groups: dict[str, Mapping[str, Tensor]] = {
        "weight": state.optimizer.parameters,
        "average": {} if state.ema is None else state.ema.tensors(),
        "moment": state.optimizer.tensors(),
    }
    checked = [(f"{kind} {name}", value) for kind, group in groups.items() for name, value in _numbers(group)]
    if not checked:
        return None
    device = checked[0][1].device
    limits = torch.stack([torch.stack(torch.aminmax(value)).float().to(device) for _, value in checked]).cpu()
    for (name, _), (least, most) in zip(checked, limits.tolist(), strict=True):
        if least - least != 0 or most - most != 0:
            return f"{name} holds NaN or infinite values"
        if least < 0 and name.startswith(f"moment {SECOND}"):
            return f"{name}, a mean of squares, holds {least:.3g}"
    return None


def _numbers(group: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the floating-point tensors that this process holds something of; codes of few bits are always finite."""
    for name, tensor in group.items():
        value = own_part(tensor.detach())
        if value.is_floating_point() and value.numel():
            yield name, value


def _first(found: list[str | None]) -> str | None:
    return next((each for each in found if each is not None), None)
