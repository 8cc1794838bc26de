"""The loss before anything was learnt tells whether the base's weights are what their names say.

A network that knows nothing of the actions predicts zero and has the loss of the velocity itself, 1 + mean a². Sound
bases, also on robots that they have not seen, have 0.73 to 1.17 of that; with shuffled or random weights it is 1.7 to
3.0. So the first step's loss, which is of the weights before it, is compared with the square of the very velocities
that it was to predict: the draw of the noise is then in both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pi05.errors import TrainingError
from pi05.model.flow import interpolate, reduce_loss
from pi05.train.config import ALLOW_BASE_LOSS
from pi05.train.step import LossSettings, TrainState, draw_delays, draw_flow
from pi05.types import Batch

LARGEST = 1.4
"""Loss over that of predicting zero, from which on a base's weights are not believed."""
ENOUGH_VALUES = 1_000
"""Entries of the loss under which a ratio tells nothing."""


def loss_of_zero(
    state: TrainState, batches: Sequence[Batch], settings: LossSettings
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss that predicting zero would have in the step that comes, and over how many entries.

    It draws the step's own noise and delays once more, and moves no generator. Waits for no device.
    """
    draws, delays = draw_flow(state, batches, settings.flow_samples), draw_delays(state, batches, settings.max_delay)
    squares, counts = [], []
    for batch, (noise, time), delay in zip(batches, draws, delays, strict=True):
        if batch.actions is None:
            raise ValueError("training needs batch.actions")
        actions = batch.actions.float().repeat_interleave(settings.flow_samples, dim=0)
        velocity = interpolate(actions, noise, time)[1].square()
        velocity = velocity.unflatten(0, (-1, settings.flow_samples)).mean(dim=1)
        total, count = reduce_loss(velocity, batch.action_mask, settings.robot_action_dim, settings.kind, delay)
        squares.append(total)
        counts.append(count)
    sums = state.parallel.ranks.sum(torch.stack([torch.stack(squares).sum(), torch.stack(counts).sum()]))
    return sums[0] / sums[1], sums[1]


def require_trained_base(loss: float, of_zero: float, entries: float, base: str, allowed: bool) -> float:
    """Return the ratio of the first loss to that of predicting zero. Raises TrainingError where it is too large.

    Too few entries, and a loss that is not finite, which ends the run anyway, are not judged.
    """
    ratio = loss / of_zero
    if ratio > LARGEST and entries >= ENOUGH_VALUES and not allowed:
        raise TrainingError(
            "the base predicts the actions worse than a network that has learnt nothing",
            wanted=f"a first loss of at most {LARGEST} times that of predicting zero (sound bases: 0.7 to 1.2)",
            found=f"{loss:.3f}, which is {ratio:.2f} times {of_zero:.3f}, with the weights of {base}",
            remedy="take the base from its source again: its weights are random, shuffled or of another network; or "
            "the actions are noise, or the pictures turned (pi05 check). "
            f"--allow={ALLOW_BASE_LOSS} trains on it anyway, --from_scratch from random weights on purpose",
        )
    return ratio
