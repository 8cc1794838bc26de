"""Flow matching: from noise (t = 1) to actions (t = 0).

Conventions and numbers follow openpi `models/pi0.py`: x_t = t·noise + (1 - t)·actions, u_t = noise - actions,
t = 0.999·Beta(1.5, 1) + 0.001, Euler steps of -1/N starting at t = 1. Paper: Black et al., π₀, 2024.

A chunk may begin with actions that are committed: the robot carries them out while the chunk is computed. They stand at
t = 0, the rest of the chunk at t, so there is one time per step then (arXiv 2512.05964, where t runs the other way).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

LossKind = Literal["masked", "lerobot", "openpi"]
Velocity = Callable[[Float[Tensor, "B A X"], Float[Tensor, " B"]], Float[Tensor, "B A X"]]
"""What the network says at x_t and t."""
Steer = Callable[[Velocity, Float[Tensor, "B A X"], Float[Tensor, " B"]], Float[Tensor, "B A X"]]
"""Takes the place of `velocity(x_t, t)` in every denoising step: guidance from outside."""

MIN_PERIOD = 4e-3
MAX_PERIOD = 4.0


def embed_time(time: Float[Tensor, "*B"], width: int) -> Float[Tensor, "*B E"]:
    """Return sines, then cosines, of `time` at periods spaced evenly in the logarithm from 0.004 to 4.

    Angles reach 1,570 rad, where float32 is off by 1e-4; so they are computed in float64.
    """
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=time.device)
    period = MIN_PERIOD * (MAX_PERIOD / MIN_PERIOD) ** fraction
    angle = time.double()[..., None] * (2 * math.pi / period)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


def step_times(num_steps: int, device: torch.device | str = "cpu") -> Float[Tensor, " N"]:
    """Return the flow times of the denoising steps, rounded as one that is counted down step by step."""
    times = [torch.ones((), device=device)]
    for _ in range(num_steps - 1):
        times.append(times[-1] - 1 / num_steps)
    return torch.stack(times)


def sample_time(
    count: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Float[Tensor, " B"]:
    """Draw flow times in [0.001, 1]: 0.999·Beta(1.5, 1) + 0.001, through the inverse of its distribution u^(2/3)."""
    uniform = torch.rand(count, generator=generator, device=device)
    return uniform ** (1 / 1.5) * 0.999 + 0.001


def sample_delays(
    count: int, max_delay: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Int64[Tensor, " B"]:
    """Draw how many actions of each sample are committed: 0 to `max_delay` - 1, all alike (arXiv 2512.05964)."""
    return torch.randint(max_delay, (count,), generator=generator, device=device)


def committed_steps(delay: Int64[Tensor, " B"], horizon: int) -> Bool[Tensor, "B A"]:
    """Return which steps of each chunk are committed: the first `delay`."""
    return torch.arange(horizon, device=delay.device) < delay[:, None]


def hold(
    x_t: Float[Tensor, "B A X"], actions: Float[Tensor, "B A X"], delay: Int64[Tensor, " B"]
) -> Float[Tensor, "B A X"]:
    """Return x_t with the first `delay` steps of each chunk replaced by these actions."""
    return torch.where(committed_steps(delay, x_t.shape[1])[..., None], actions, x_t)


def time_per_step(time: Float[Tensor, " B"], committed: Bool[Tensor, "B A"]) -> Float[Tensor, "B A"]:
    """Return the flow time of every step: 0 where it is committed, that of the sample elsewhere."""
    return time[:, None].masked_fill(committed, 0.0)


def interpolate(
    actions: Float[Tensor, "B A X"],
    noise: Float[Tensor, "B A X"],
    time: Float[Tensor, " B"] | Float[Tensor, "B A"],
) -> tuple[Float[Tensor, "B A X"], Float[Tensor, "B A X"]]:
    """Return the point x_t between actions and noise, and the velocity u_t that the network learns there."""
    t = time[:, None, None] if time.dim() == 1 else time[..., None]
    return t * noise + (1 - t) * actions, noise - actions


def reduce_loss(
    losses: Float[Tensor, "B A X"],
    action_mask: Bool[Tensor, "B A"] | None,
    robot_action_dim: int,
    kind: LossKind,
    delay: Int64[Tensor, " B"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the sum over the entries that count (`losses_that_count`), and their number."""
    counted, number = losses_that_count(losses, action_mask, robot_action_dim, kind, delay)
    return counted.sum(), number


def losses_that_count(
    losses: Float[Tensor, "B A X"],
    action_mask: Bool[Tensor, "B A"] | None,
    robot_action_dim: int,
    kind: LossKind,
    delay: Int64[Tensor, " B"] | None = None,
) -> tuple[Float[Tensor, "B A counted"], Float[Tensor, ""]]:
    """Return the losses of the dimensions that count, 0 in steps that do not, and the number of entries that do.

    `masked` (default): real action dimensions of steps inside the episode. `lerobot`: real dimensions, padded steps
    included. `openpi`: all of the network's action dimensions and steps. Committed steps, the first `delay`, never
    count.
    """
    counted = losses if kind == "openpi" else losses[..., :robot_action_dim]
    steps = action_mask if kind == "masked" else None
    if delay is not None:
        free = ~committed_steps(delay, counted.shape[1])
        steps = free if steps is None else steps & free
    if steps is not None:
        weight = steps[..., None].to(counted.dtype)
        return counted * weight, weight.sum() * counted.shape[-1]
    return counted, counted.new_full((), float(counted.numel()))
