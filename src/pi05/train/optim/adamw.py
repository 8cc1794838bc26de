"""How parameters move: AdamW, the learning-rate schedule, clipping by the global norm, the moving average of weights.

Numbers and order follow openpi `training/optimizer.py` and `scripts/train.py` (optax): the gradient is clipped, AdamW
takes it with the learning rate of the update's index counted from 0, then the average follows. Parameters are float32.
Leaves out where gradients come from (`train/step.py`), and what saves memory (`low_memory.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pi05.errors import CheckpointError
from pi05.train.parallel.shards import exchange, fill, global_norm, is_sharded, own_part

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, then a cosine to `end`, which is kept from `decay_steps` on (warm-up included in them)."""

    peak: float
    warmup_steps: int
    decay_steps: int
    end: float

    def rate(self, update: int) -> float:
        """Return the learning rate of an update; the first is number 0 and gets peak / (warm-up + 1)."""
        if update < self.warmup_steps:
            start = self.peak / (self.warmup_steps + 1)
            return start + (self.peak - start) * update / self.warmup_steps
        progress = min(1.0, (update - self.warmup_steps) / (self.decay_steps - self.warmup_steps))
        return self.end + (self.peak - self.end) * (1 + math.cos(math.pi * progress)) / 2

    def to_dict(self) -> dict[str, float | int]:
        """Return plain data."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class AdamSettings:
    """AdamW's numbers and the largest global gradient norm."""

    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip_norm: float = 1.0


class AdamW:
    """AdamW over named parameters, with clipping and a schedule; its state is a dictionary of tensors by name."""

    measures_first = False
    """Whether the next step needs a backward pass of its own beforehand (`gradient_release.py`); never here."""
    remark = ""
    """What the user should know of the update; PyTorch's own needs no words."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: AdamSettings, schedule: Schedule) -> None:
        self.parameters = dict(parameters)
        self.settings = settings
        self.schedule = schedule
        self._adam = torch.optim.AdamW(
            self.parameters.values(),
            lr=schedule.rate(0),
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def begin(self, update: int) -> None:
        """Forget the gradients, and give their memory back; those that come belong to `update`, counted from 0."""
        self._adam.zero_grad(set_to_none=True)

    def apply(self, update: int) -> tuple[Float[Tensor, ""], float]:
        """Clip the gradients and move the parameters; return the norm before clipping and the learning rate.

        Parameters without a gradient do not move. Nothing here waits for the device.
        """
        norm = clip_gradients(self.parameters.values(), self.settings.clip_norm)
        rate = self.schedule.rate(update)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        return norm, rate

    def make_moments(self) -> dict[str, list[Tensor]]:
        """Make the moments of every parameter now, which its first step would do; return them by parameter."""
        made = {}
        for name, parameter in self.parameters.items():
            state = self._adam.state[parameter]
            if not state:
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            made[name] = [state[moment].detach() for moment in _MOMENTS]
        return made

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments as `exp_avg/NAME`, `exp_avg_sq/NAME`, `step/NAME`."""
        found = {}
        for name, parameter in self.parameters.items():
            for moment, value in self._adam.state.get(parameter, {}).items():
                found[f"{moment}/{name}"] = value
        return found

    def moment_bytes(self) -> int:
        """Return the bytes of all moments, those of parameters that have not moved yet included."""
        return sum(8 * parameter.numel() for parameter in self.parameters.values())

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the moments that `tensors` returned. Raises CheckpointError for names or shapes that do not fit."""
        expected = {f"{moment}/{name}" for moment in _MOMENTS for name in self.parameters}
        strangers = sorted(set(tensors) - expected)
        if strangers:
            raise CheckpointError(
                "the optimizer state belongs to other parameters",
                wanted=f"moments of the {len(self.parameters)} trainable parameters",
                found=", ".join(strangers[:5]),
                remedy="resume with the settings that the run was started with",
            )
        for name, parameter in self.parameters.items():
            state = {moment: tensors.get(f"{moment}/{name}") for moment in _MOMENTS}
            if all(value is None for value in state.values()):
                continue
            fits = state["step"] is not None and all(
                value is not None and value.shape == parameter.shape
                for value in (state["exp_avg"], state["exp_avg_sq"])
            )
            if not fits:
                raise CheckpointError(
                    f"the optimizer state of {name} is incomplete or has another shape",
                    wanted=str(tuple(parameter.shape)),
                    found=str({k: None if v is None else tuple(v.shape) for k, v in state.items()}),
                    remedy="use another checkpoint of the run",
                )
            self._adam.state[parameter] = {
                moment: value.to(device=parameter.device, copy=True)
                for moment, value in state.items()
                if value is not None
            }


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> Float[Tensor, ""]:
    """Scale all gradients together so that their global norm is at most `largest`; return the norm before.

    As optax does it: no epsilon, untouched below the limit.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = global_norm(gradients)
    torch._foreach_mul_([own_part(gradient) for gradient in gradients], (largest / norm).clamp(max=1.0))
    return norm


class Ema:
    """The exponential moving average (EMA) of the trainable weights, in float32, starting at their first values."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._parameters = dict(parameters)
        self._average = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights: average = decay·average + (1 - decay)·weight."""
        same = [name for name, weight in self._parameters.items() if weight.dtype == torch.float32]
        weights = [own_part(self._parameters[name]) for name in same]
        if same:
            torch._foreach_lerp_([own_part(self._average[name]) for name in same], weights, 1 - self.decay)
        for name, weight in self._parameters.items():
            if weight.dtype != torch.float32:
                self._average[name].mul_(self.decay).add_(weight, alpha=1 - self.decay)

    def tensors(self) -> dict[str, Tensor]:
        """Return the average by parameter name."""
        return dict(self._average)

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over an average that `tensors` returned; further names are left alone."""
        for name, average in self._average.items():
            fill(average, tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights for the duration of a `with` block.

        Where the network is split, FSDP owns the memory of the weights: then the values change places, not the tensors,
        and `tensors` has the weights meanwhile.
        """
        if is_sharded(self._parameters.values()):
            with self._exchanged():
                yield
            return
        weights = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self._average[name]
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = weights[name]

    @contextmanager
    def _exchanged(self) -> Iterator[None]:
        for name, parameter in self._parameters.items():
            exchange(parameter, self._average[name])
        try:
            yield
        finally:
            for name, parameter in self._parameters.items():
                exchange(parameter, self._average[name])
