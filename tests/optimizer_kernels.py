"""Updates drawn at random and taken both ways: by a kernel on a device, and operation by operation on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pi05.train.optim.adamw import AdamSettings
from pi05.train.optim.kernel_update import KernelUpdate
from pi05.train.optim.low_memory import StateKind
from pi05.train.optim.minifloat import FORMATS
from pi05.train.optim.moments import Moment, ParameterState
from pi05.train.optim.plain_update import StepNumbers, move_plain
from pi05.train.optim.stochastic_rounding import USES, rounding_key

SETTINGS = AdamSettings(weight_decay=0.1)
SPECIAL = (0.0, -0.0, 1e-40, -1e-44, 1e-30, 3e38, -3e38, float("inf"), float("-inf"), float("nan"))
"""Zeros, numbers too small for float32's full precision, those whose square is infinite, and what is no number."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What decides an update's code and its numbers."""

    state: StateKind = "8bit"
    weight: torch.dtype = torch.bfloat16
    gradient: torch.dtype = torch.bfloat16
    counts: tuple[int, ...] = (5000,)
    special: tuple[float, ...] = ()
    """Values of the gradient, strewn over it."""
    factor: float = 0.37
    seed: int = 0
    steps: int = 2


class Side:
    """Weights and moments on a device, all the same on each side at first."""

    def __init__(self, update: Update, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(update.seed)
        form = (None, None) if update.state == "float32" else FORMATS[update.state]
        drawn = [torch.randn(count, generator=generator).to(update.weight) for count in update.counts]
        self.weights = [weight.to(device, copy=True) for weight in drawn]
        self.states = [
            ParameterState(Moment(weight, form[0], False), Moment(weight, form[1], False)) for weight in self.weights
        ]

    def parts(self) -> list[Tensor]:
        """Return all that an update changes, on the CPU."""
        found = []
        for weight, state in zip(self.weights, self.states, strict=True):
            found += [weight.cpu(), *(part.cpu() for part in (*state.first.parts, *state.second.parts))]
        return found


def gradients(update: Update, step: int) -> list[Tensor]:
    """Return gradients whose sizes differ by orders of magnitude."""
    generator = torch.Generator().manual_seed(1000 * update.seed + step)
    found = []
    for count in update.counts:
        size, sign = torch.randn(2, count, generator=generator)
        drawn = sign * torch.exp(3 * size - 5)
        for index, value in enumerate(update.special):
            drawn[(97 * index + step) % max(1, min(count, 391)) :: 391] = value
        found.append(drawn.to(update.gradient))
    return found


class Both:
    """The side of the CPU, operation by operation, and that of the kernels."""

    def __init__(self, update: Update, device: torch.device) -> None:
        self.update, self.device = update, device
        self.plain, self.ours = Side(update, torch.device("cpu")), Side(update, device)
        self.names = [f"tensor {index}" for index in range(len(update.counts))]
        self.kernels = KernelUpdate(self.names, update.seed)

    def take(self, step: int, drawn: list[Tensor]) -> None:
        """Take a step both ways with these gradients."""
        numbers = StepNumbers.of(SETTINGS, 1e-3, step + 1)
        factor = torch.tensor(self.update.factor)
        self.kernels.begin()
        for index, gradient in enumerate(drawn):
            name = self.names[index]
            keys = [rounding_key(self.update.seed, step, f"{name}/{use}") for use in USES]
            move_plain(self.plain.weights[index], gradient, factor, self.plain.states[index], 0, keys, numbers)
            self.kernels.move(
                name,
                self.ours.weights[index],
                gradient.to(self.device),
                factor.to(self.device),
                self.ours.states[index],
                step,
                numbers,
                2**23,
            )
        self.kernels.finish()

    def assert_same(self) -> None:
        """Assert that weights and moments are the same on both sides."""
        for index, (wanted, found) in enumerate(zip(self.plain.parts(), self.ours.parts(), strict=True)):
            assert same_bits(wanted, found), (self.update, index)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Compare bit by bit, but for which NaN it is."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if not one.dtype.is_floating_point:
        return torch.equal(one, other)
    whole = {2: torch.int16, 4: torch.int32}[one.element_size()]
    return bool(((one.view(whole) == other.view(whole)) | (one.isnan() & other.isnan())).all())


def assert_same(update: Update, device: torch.device) -> None:
    """Assert that both ways lead to the same weights and moments."""
    both = Both(update, device)
    for step in range(update.steps):
        both.take(step, gradients(update, step))
    both.assert_same()
