"""Real-time chunking: the next chunk is computed while the robot carries out the previous one, and continues it.

    observation        the next chunk arrives
         │◄──── delay ────►│
         ├─ committed ─────┼─ still planned ──────┤                          previous chunk, from the observation on
         ├─ skipped ───────┼─ carried out ────────────────────────────┤      next chunk
          1  1  1  1  1  1   .8  .5  .3  .2  .1   0  0  0  0  0  0  0       weights (agreement with the previous chunk)

Two ways to make the next chunk begin as the previous one goes on:

- `guided`, for any checkpoint: every denoising step is steered towards the previous chunk (Black et al., Real-Time
  Execution of Action Chunking Flow Policies, arXiv 2506.07339). `PUBLISHED` is the paper's; `LEROBOT` does what LeRobot
  0.6.1 does, which leaves the network's derivative out of the correction and has other defaults.
- `trained`, for a checkpoint of `--rtc_max_delay`: the network is given the committed actions (arXiv 2512.05964).

What is left of a chunk is kept in robot units. It is made relative again to the state of the new observation, from
which the next chunk starts, so that nothing is ever relative to an old state. Leaves out when a chunk is asked for and
who carries it out (`eval/chunking.py`, the client). The flow network knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pi05.data.processor import Processor
from pi05.errors import CheckpointError, ConfigError
from pi05.policy import Policy
from pi05.serve.underway import Mode, Underway

Schedule = Literal["exponential", "linear", "ones", "zeros"]
SCHEDULES = ("exponential", "linear", "ones", "zeros")
Velocity = Callable[[Tensor, Tensor], Tensor]
Steer = Callable[[Velocity, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How a chunk is steered towards the previous one; the defaults are those of the paper."""

    schedule: Schedule = "exponential"
    """How agreement falls from 1 at the delay to 0 at the end of the overlap; ones: not at all; zeros: at once."""
    overlap: int | None = None
    """Steps of the new chunk that shall agree with the previous one at most; None: as many as are left of it."""
    max_weight: float = 5.0
    """Most that the correction counts; it would grow without bound towards noise, where the flow begins."""
    through_network: bool = True
    """Whether the correction goes back through the network, as published, at three times the price of a step."""
    padding: bool = False
    """Whether the action dimensions that the robot does not have are steered too, towards 0."""

    def __post_init__(self) -> None:
        possible = (
            (self.schedule in SCHEDULES, "schedule", " or ".join(SCHEDULES)),
            (self.max_weight > 0, "max_weight", "a number above 0"),
            (self.overlap is None or self.overlap >= 0, "overlap", "a number of steps, 0 or more, or None"),
        )
        for fits, name, wanted in possible:
            if not fits:
                raise ConfigError(
                    f"guidance with such a {name} is not possible",
                    wanted=wanted,
                    found=str(getattr(self, name)),
                    remedy="correct it, or leave it out: the defaults are those of the paper",
                )


PUBLISHED = Guidance()
LEROBOT = Guidance(schedule="linear", overlap=10, max_weight=10.0, through_network=False, padding=True)


def next_chunks(
    policy: Policy,
    observations: Sequence[Mapping[str, Any]],
    underway: Sequence[Underway | None],
    *,
    mode: Mode,
    guidance: Guidance = PUBLISHED,
    noise: Float[Tensor, "B A X"] | None = None,
    num_steps: int = 10,
    generator: torch.Generator | None = None,
) -> list[Float[np.ndarray, "A n"]]:
    """Return one chunk in robot units per observation, whose first action belongs to the time of the observation.

    So the robot goes on at index `delay` of it. `underway` is None where the robot stands and waits. Raises
    CheckpointError where `trained` is asked of a policy that was not trained for such a delay, and what
    `Policy.infer_batch` raises.
    """
    asked = [dict(each) for each in observations]
    processor = policy.processor
    needed = mode != "naive" and any(each is not None for each in underway)
    states = [processor.state_of(one) for one in asked] if needed else []
    steering = continuation(policy, states, underway, mode=mode, guidance=guidance)
    return policy.infer_batch(asked, noise=noise, num_steps=num_steps, generator=generator, **steering)


def continuation(
    policy: Policy,
    states: Sequence[Float[np.ndarray, " S"]],
    underway: Sequence[Underway | None],
    *,
    mode: Mode,
    guidance: Guidance = PUBLISHED,
) -> dict[str, Any]:
    """Return the options of `Policy.answer` that make each chunk continue what its robot is doing; none for nobody.

    `states` are those of the observations, in robot units. Raises CheckpointError as `next_chunks`.
    """
    require_trained(policy, mode, max((each.delay for each in underway if each is not None), default=0))
    if mode == "naive" or all(each is None for each in underway):
        return {}
    processor = policy.processor
    device = next(policy.model.parameters()).device
    pairs = list(zip(states, underway, strict=True))
    previous = torch.from_numpy(np.stack([encode_previous(processor, *pair) for pair in pairs])).to(device)
    if mode == "trained":
        return {"committed": (previous, torch.tensor([0 if e is None else e.delay for e in underway], device=device))}
    rows = [weights_of(each, guidance, processor.horizon) for each in underway]
    weights = torch.stack(rows).to(device)[..., None].repeat(1, 1, processor.action_dim)
    if not guidance.padding:
        weights[..., processor.robot_action_dim :] = 0
    return {"steer": guide(previous, weights, guidance)}


def require_trained(policy: Policy, mode: Mode, delay: int) -> None:
    """Raise CheckpointError where the policy would have to continue more committed actions than it was trained to."""
    if mode != "trained" or delay < policy.max_delay or (delay == 0 and policy.max_delay > 0):
        return
    told = f"--rtc_max_delay={policy.max_delay}, so below {policy.max_delay}" if policy.max_delay else "none"
    raise CheckpointError(
        "the policy was not trained to continue that many committed actions",
        wanted=f"a policy trained for a delay of {delay} control steps",
        found=told,
        remedy=f"train with --rtc_max_delay={max(delay + 1, 2)} or more, or use guided, which any policy can do",
    )


def encode_previous(
    processor: Processor, state: Float[np.ndarray, " S"], underway: Underway | None
) -> Float[np.ndarray, "A X"]:
    """Return what is left of the previous chunk as the network sees actions, relative to the observation's state.

    Past its end the last action is repeated; nothing depends on that, nor on the zeros where there is no chunk.
    """
    if underway is None or len(underway.actions) == 0:
        return np.zeros((processor.horizon, processor.action_dim), np.float32)
    left = np.asarray(underway.actions, np.float32)[: processor.horizon]
    filled = np.concatenate([left, np.repeat(left[-1:], processor.horizon - len(left), axis=0)])
    return processor.encode_actions(filled, state)


def weights_of(underway: Underway | None, guidance: Guidance, horizon: int) -> Float[Tensor, " A"]:
    """Return how much each step of the next chunk shall agree with the previous chunk."""
    if underway is None:
        return torch.zeros(horizon)
    left = len(underway.actions)
    overlap = left if guidance.overlap is None else min(guidance.overlap, left)
    return agreement(guidance.schedule, underway.delay, overlap, horizon)


def agreement(schedule: Schedule, delay: int, overlap: int, horizon: int) -> Float[Tensor, " A"]:
    """Return the weight of each step: 1 before `delay`, falling to 0 at `overlap`, 0 from there on.

    A linear c falls in equal steps that would reach 1 one step before the delay, and 0 at the overlap's end; the
    exponential schedule is c · (e^c - 1) / (e - 1).
    """
    steps = torch.arange(horizon)
    delay = min(delay, overlap)
    if schedule == "ones":
        return (steps < overlap).float()
    if schedule == "zeros":
        return (steps < delay).float()
    falling = ((overlap - steps) / (overlap - delay + 1)).clamp(0, 1)
    if schedule == "exponential":
        falling = falling * torch.expm1(falling) / torch.expm1(torch.ones(()))
    return torch.where(steps < delay, 1.0, falling)


def guide(previous: Float[Tensor, "B A X"], weights: Float[Tensor, "B A X"], guidance: Guidance) -> Steer:
    """Return what steers a denoising step towards the `previous` chunk, both as the network sees actions.

    At x_t the flow points to the chunk x_t - t·v_t. Its weighted difference from the previous chunk, taken back to x_t
    (through the network's derivative, or as if that were 1), is added with a weight that depends on t alone.
    """

    def steer(velocity: Velocity, x_t: Tensor, time: Tensor) -> Tensor:
        t = time.view(-1, 1, 1)
        strength = guidance_strength(t, guidance.max_weight)
        if not guidance.through_network:
            v_t = velocity(x_t, time)
            return v_t - strength * weights * (previous - (x_t - t * v_t))
        with torch.enable_grad():
            start = x_t.detach().requires_grad_()
            v_t = velocity(start, time)
            target = start - t * v_t
            error = (weights * (previous - target)).detach()
            (correction,) = torch.autograd.grad(target, start, error)
        return v_t.detach() - strength * correction

    return steer


def guidance_strength(t: Float[Tensor, "*any"], most: float) -> Float[Tensor, "*any"]:
    """Return (t² + (1 - t)²) / (t·(1 - t)), at most `most`: what the correction counts at flow time t > 0."""
    strength = (t.square() + (1 - t).square()) / (t * (1 - t)).clamp(min=torch.finfo(t.dtype).tiny)
    return strength.clamp(max=most)
