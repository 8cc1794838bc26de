"""One AdamW step with a portion of a parameter, as one function that torch.compile turns into few kernels.

Everything is read and written once instead of operation by operation: moments are decoded, moved and encoded again, the
weight decays, moves and is rounded. What changes from step to step comes as tensors, so that nothing is compiled
again. Leaves out which portions there are and where moments live (`low_memory.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int32
from torch import Tensor

from pi05.train.optim.minifloat import Minifloat, Packed
from pi05.train.optim.stochastic_rounding import KeyTable, random_bits, round_to_bfloat16

Forms = tuple[Minifloat, Minifloat] | None
"""How the two moments are packed; None for float32."""
Parts = tuple[Tensor, ...]
VERSIONS = 32
"""Compilations before Dynamo gives up. A run needs one for each of: moments packed or not, weights in float32 or
bfloat16, a single block or several."""


def update_portion(
    form: Forms,
    betas: tuple[float, float],
    eps: float,
    weight: Tensor,
    gradient: Tensor,
    first: Parts,
    second: Parts,
    tables: tuple[Tensor, ...],
    start: Tensor,
    keys: Tensor,
    numbers: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Move a portion of a weight and both of its moments in place.

    `weight` and `gradient` are flat, or whole blocks in rows; `first` and `second` the moments' parts; `tables` the
    values of their codes. `start[0]` is where the portion starts in its parameter, and `keys` four int32: both decide
    the random bits. `numbers`: the share of the weight that decay leaves; the learning rate over the first moment's
    correction, negative; the second moment's correction; what the gradient is multiplied by.
    """
    kept, size, correction, clip = numbers
    flat, scaled = weight.view(-1), gradient.reshape(-1).float() * clip
    count = flat.shape[0]
    if form is None:
        old1, old2 = first[0], second[0]
    else:
        old1 = form[0].decode_with(tables[0], Packed(*first), count)
        old2 = form[1].decode_with(tables[1], Packed(*second), count)
    new1 = old1 + (scaled - old1) * (1 - betas[0])
    new2 = old2 * betas[1] + scaled * scaled * (1 - betas[1])
    scale = (new2 / correction).sqrt() + eps
    moved = flat.float() * kept + new1 * size / scale
    place = torch.arange(count, dtype=torch.int32, device=weight.device) + start[0]
    if weight.dtype == torch.bfloat16 or form is not None:
        noise = random_bits(place, (keys[0], keys[1]))
        flat.copy_(round_to_bfloat16(moved, noise) if weight.dtype == torch.bfloat16 else moved)
    else:
        flat.copy_(moved)
    if form is None:
        first[0].copy_(new1)
        second[0].copy_(new2)
        return
    packed1 = form[0].encode(new1, noise >> 16)
    packed2 = form[1].encode(new2, random_bits(place, (keys[2], keys[3])))
    for part, new in zip((*first, *second), (*packed1, *packed2), strict=True):
        part.copy_(new)


@functools.cache
def compiled_update(form: Forms, betas: tuple[float, float], eps: float) -> Callable[..., None]:
    """Return `update_portion` for these constants, compiled when it is first called with each kind of tensor."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VERSIONS)

    def update(*arguments: object) -> None:
        update_portion(form, betas, eps, *arguments)  # type: ignore[arg-type]

    # As PyTorch's own kernels round: products and sums are not joined, quotients are those of IEEE 754.
    exact: dict[str, str | int | bool | Callable[..., Any]] = {
        "emulate_precision_casts": True,
        "eager_numerics.division_rounding": True,
    }
    return torch.compile(update, dynamic=True, options=exact)


class StepInputs:
    """What compiled code takes as tensors: keys, places, numbers of a step. Nothing here waits for the device."""

    def __init__(self, names: list[str], seed: int) -> None:
        self._table = KeyTable(names, seed)
        self._starts: Tensor | None = None
        self._portion = 0
        self._numbers: dict[tuple[float, ...], tuple[Tensor, ...]] = {}

    def keys(self, name: str, update: int, device: torch.device) -> Int32[Tensor, 4]:
        """Return both rounding keys of a parameter; those of all parameters are copied at once."""
        return self._table.of(name, update, device).clone()

    def starts(self, portion: int, number: int, device: torch.device) -> Int32[Tensor, 4]:
        """Return where a portion starts, in a row of 16 bytes, as compiled code wants its inputs aligned."""
        if self._starts is None or int(self._starts.shape[0]) <= number or self._portion != portion:
            count, self._portion = max(64, 2 * number), portion
            column = torch.arange(count, dtype=torch.int32, device=device) * portion
            self._starts = column[:, None].repeat(1, 4)
        return self._starts[number].clone()

    def numbers(self, values: tuple[float, ...], device: torch.device) -> tuple[Tensor, ...]:
        """Return numbers as tensors; parameters that are in the same step share them."""
        if values not in self._numbers:
            self._numbers.clear()
            self._numbers[values] = tuple(torch.full((), value, device=device) for value in values)
        return self._numbers[values]
