"""One AdamW step with a portion of a parameter, operation by operation: what every faster way has to equal.

Each operation rounds once, as IEEE 754 has it: no product is joined with a sum (`lerp`, `addcmul` and `addcdiv` do
that, on some devices and in some places of a tensor). So a kernel that is written by hand can give the same bits.
On a GPU, where PyTorch multiplies by the inverse of a Python number in the place of dividing, the last bit may differ:
the results of the CPU count. Leaves out which portions there are (`low_memory.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pi05.train.optim.adamw import AdamSettings
from pi05.train.optim.moments import ParameterState
from pi05.train.optim.stochastic_rounding import random_bits, round_to_bfloat16


@dataclass(frozen=True, kw_only=True)
class StepNumbers:
    """The numbers of one step of AdamW, the same for all values of a parameter."""

    kept: float
    """Share of the weight that decay leaves."""
    size: float
    """Learning rate over the first moment's correction, negative."""
    correction: float
    """Of the second moment, below 1 in the first steps."""
    share: float
    """How much of the gradient goes into the first moment: 1 - beta1."""
    beta2: float
    share2: float
    """1 - beta2."""
    eps: float

    @classmethod
    def of(cls, settings: AdamSettings, rate: float, steps: int) -> StepNumbers:
        """Return the numbers of a parameter's step, counted from 1, at a learning rate."""
        beta1, beta2 = settings.betas
        return cls(
            kept=1 - rate * settings.weight_decay,
            size=-rate / (1 - beta1**steps),
            correction=1 - beta2**steps,
            share=1 - beta1,
            beta2=beta2,
            share2=1 - beta2,
            eps=settings.eps,
        )


@torch.no_grad()
def move_plain(
    weight: Float[Tensor, " n"],
    gradient: Float[Tensor, " n"],
    factor: Float[Tensor, ""],
    state: ParameterState,
    start: int,
    keys: list[tuple[int, int]],
    numbers: StepNumbers,
) -> None:
    """Move `weight`, values `start` onwards of a parameter, and its moments.

    `keys` are those that `stochastic_rounding.USES` names.
    """
    gradient = gradient.float() * factor
    first = state.first.read(start, len(weight))
    first = (gradient - first).mul_(numbers.share).add_(first)
    second = state.second.read(start, len(weight)).mul(numbers.beta2)
    second.add_(gradient.mul_(gradient).mul_(numbers.share2))
    scale = _root(second / numbers.correction).add_(numbers.eps)
    moved = weight.float() * numbers.kept
    moved.add_(torch.mul(first, numbers.size, out=gradient).div_(scale))
    noise, noise2 = None, None
    if weight.dtype == torch.bfloat16 or state.first.kind is not None:
        index = torch.arange(start, start + len(weight), dtype=torch.int32, device=weight.device)
        noise = random_bits(index, keys[0])
        noise2 = random_bits(index, keys[1]) if state.second.kind is not None else None
    if weight.dtype == torch.bfloat16 and noise is not None:
        weight.copy_(round_to_bfloat16(moved, noise))
    else:
        weight.copy_(moved)
    state.first.write(start, first, None if noise is None else noise >> 16)
    state.second.write(start, second, noise2)


def _root(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Replace values by their square roots, rounded as IEEE 754 has it.

    PyTorch's root on a CPU is MKL's: of random numbers 0.6 % are off by the last bit. NumPy's is the processor's own.
    """
    if values.device.type != "cpu":
        return values.sqrt_()
    array = values.numpy()
    with np.errstate(invalid="ignore"):
        np.sqrt(array, out=array)
    return values
