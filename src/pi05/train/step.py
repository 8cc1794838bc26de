"""One optimizer step, and all that has to be known to continue after it. No input or output here.

A step is one or several forward passes (gradient accumulation) on one or several GPUs. Noise and flow times are drawn
for all its samples at once, from seed and step, and each pass of each GPU takes its own. So they do not depend on how a
step is divided, and the random state that resume needs is the step's number. Leaves out where batches come from and
what becomes of the result (`loop.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from pi05.model.flow import LossKind, losses_that_count, reduce_loss, sample_delays, sample_time
from pi05.train.config import TrainConfig
from pi05.train.optim.adamw import Ema
from pi05.train.optim.protocol import Optimizer
from pi05.train.parallel.split import Parallel
from pi05.types import Batch

DRAWS_OF_DELAYS = 2**31
"""In the place of a forward pass's number: the generator that delays are drawn from is theirs alone."""


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Which entries of the squared error count, and over how many flow draws each is a mean."""

    kind: LossKind = "masked"
    robot_action_dim: int = 32
    flow_samples: int = 1
    max_delay: int = 0
    """Committed actions are fewer than this, drawn for each sample; 0: there are none."""


def loss_settings(config: TrainConfig, robot_action_dim: int) -> LossSettings:
    """Return what the loss of a run counts."""
    return LossSettings(
        kind=config.loss,
        robot_action_dim=robot_action_dim,
        flow_samples=config.flow_samples,
        max_delay=config.rtc_max_delay,
    )


@dataclass
class TrainState:
    """A training between two steps: what a checkpoint restores, and how a step is run."""

    step: int
    """Optimizer steps taken; with the seed it fixes all random draws."""
    seed: int
    model: nn.Module
    optimizer: Optimizer
    ema: Ema | None = None
    loader: dict[str, int] = field(default_factory=dict)
    """Position in the data behind the last step; empty before the first. With step, weights, moments and average it is
    all that a checkpoint restores; what follows is built anew from the settings."""
    dropout: bool = False
    """Whether the network draws random numbers of its own."""
    parallel: Parallel = field(default_factory=Parallel)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step measured. Tensors stay on the device until somebody asks for numbers.

    On several GPUs `samples`, `loss` and `grad_norm` are those of all of them, the losses in detail this one's.
    """

    step: int
    samples: int
    learning_rate: float
    loss: Float[Tensor, ""]
    grad_norm: Float[Tensor, ""]
    sample_losses: Float[Tensor, " B"]
    """Of the entries that count, as in `loss`; neither is divided by their number."""
    dimension_losses: Float[Tensor, " counted"]


def train_step(state: TrainState, batches: Sequence[Batch], settings: LossSettings) -> StepResult:
    """Take one optimizer step over the forward passes `batches` and advance `state.step`.

    The loss is the sum over all passes of all GPUs divided by the number of entries that count in all of them. So the
    gradient is that of the big batch, even when passes hold different numbers of padded steps.
    """
    if state.optimizer.measures_first:
        backward(state, batches, settings)
        state.optimizer.apply(state.step)
    total, losses = backward(state, batches, settings)
    grad_norm, rate = state.optimizer.apply(state.step)
    if state.ema is not None:
        state.ema.update()
    state.step += 1
    return StepResult(
        step=state.step,
        samples=sum(len(batch.tokens) for batch in batches) * state.parallel.ranks.world_size,
        learning_rate=rate,
        loss=total,
        grad_norm=grad_norm,
        sample_losses=torch.cat([each.sum(dim=(1, 2)) for each in losses]),
        dimension_losses=torch.stack([each.sum(dim=(0, 1)) for each in losses]).sum(dim=0),
    )


def backward(
    state: TrainState, batches: Sequence[Batch], settings: LossSettings
) -> tuple[Float[Tensor, ""], list[Float[Tensor, "B A counted"]]]:
    """Leave the gradients of a step, or let the optimizer have them; return the loss, and what it is the sum of.

    The latter per element and pass, before it is divided by the number of entries.
    """
    parallel, ranks = state.parallel, state.parallel.ranks
    draws, delays = draw_flow(state, batches, settings.flow_samples), draw_delays(state, batches, settings.max_delay)
    counts = [count_entries(batch, settings, delay) for batch, delay in zip(batches, delays, strict=True)]
    count = ranks.sum(torch.stack(counts).sum())
    state.optimizer.begin(state.step)
    total = torch.zeros((), device=batches[0].tokens.device)
    details = []
    for index, batch in enumerate(batches):
        last = index == len(batches) - 1
        if state.dropout:  # layers draw from the global generator; each GPU has its own masks
            place = index * ranks.world_size + ranks.rank
            generator = draw_generator(state.seed, state.step, place, batch.tokens.device)
            torch.manual_seed(generator.initial_seed() + 1)
        (noise, time), delay = draws[index], delays[index]
        losses = parallel.losses(
            state.model, last, batch, noise=noise, time=time, flow_samples=settings.flow_samples, delay=delay
        )
        counted, _ = losses_that_count(losses, batch.action_mask, settings.robot_action_dim, settings.kind, delay)
        loss = counted.sum() / count
        parallel.finish(loss * ranks.world_size if ranks.several else loss, last)  # gradients are means over the GPUs
        total += loss.detach()
        details.append(counted.detach())
    return ranks.sum(total), details


def draw_flow(
    state: TrainState, batches: Sequence[Batch], flow_samples: int
) -> list[tuple[Float[Tensor, "KB A X"], Float[Tensor, " KB"]]]:
    """Return noise and flow times of each forward pass on this GPU, out of those of the whole step.

    Samples are numbered as the loader deals them out: all GPUs' share of the first pass, then that of the second.
    """
    actions = [batch.actions for batch in batches if batch.actions is not None]
    device = actions[0].device
    sizes = [len(each) * flow_samples for each in actions]
    generator = draw_generator(state.seed, state.step, 0, device)
    whole = sum(sizes) * state.parallel.ranks.world_size
    noise = torch.randn((whole, *actions[0].shape[1:]), generator=generator, device=device)
    time = sample_time(len(noise), generator, device)
    return list(zip(_own_shares(state, noise, sizes), _own_shares(state, time, sizes), strict=True))


def draw_delays(state: TrainState, batches: Sequence[Batch], max_delay: int) -> list[Int64[Tensor, " B"] | None]:
    """Return how many actions of each sample are committed, per forward pass on this GPU; None: delays are off.

    At the end of an episode fewer are: one real action is always left to learn from. The flow draws of a sample share
    its delay, and are the same with and without delays.
    """
    if max_delay == 0:
        return [None] * len(batches)
    sizes, device = [len(batch.tokens) for batch in batches], batches[0].tokens.device
    generator = draw_generator(state.seed, state.step, DRAWS_OF_DELAYS, device)
    drawn = sample_delays(sum(sizes) * state.parallel.ranks.world_size, max_delay, generator, device)
    own = _own_shares(state, drawn, sizes)
    return [
        delay if batch.action_mask is None else torch.minimum(delay, batch.action_mask.sum(dim=1) - 1).clamp(min=0)
        for delay, batch in zip(own, batches, strict=True)
    ]


def _own_shares(state: TrainState, drawn: Tensor, sizes: list[int]) -> list[Tensor]:
    """Return this GPU's part of what was drawn for the whole step, per forward pass of these sizes."""
    ranks = state.parallel.ranks
    shares = [size for size in sizes for _ in range(ranks.world_size)]
    return list(drawn.split(shares)[ranks.rank :: ranks.world_size])


def count_entries(batch: Batch, settings: LossSettings, delay: Int64[Tensor, " B"] | None = None) -> Float[Tensor, ""]:
    """Return how many entries of a batch count in the loss."""
    if batch.actions is None:
        raise ValueError("training needs batch.actions")
    return reduce_loss(batch.actions, batch.action_mask, settings.robot_action_dim, settings.kind, delay)[1]


def draw_generator(seed: int, step: int, index: int, device: torch.device) -> torch.Generator:
    """Return a generator that seed, step and `index` decide; noise and flow times of a step have index 0."""
    mixed = np.random.SeedSequence((seed, step, index)).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(mixed) >> 1)
