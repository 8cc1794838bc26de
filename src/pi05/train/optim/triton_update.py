"""One AdamW step with a whole parameter, or with many small ones, as one launch of a kernel (`triton_kernels.py`).

Only `kernel_update.py` and tests import this, since it takes Triton.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pi05.train.optim.kernel_values import Values
from pi05.train.optim.minifloat import Minifloat
from pi05.train.optim.plain_update import StepNumbers
from pi05.train.optim.triton_kernels import float32, float32_group, packed

VALUES = 1024
"""Values that one program moves, a multiple of every block."""
FIELDS = 7
"""Numbers that a small parameter takes in the table of a group: six addresses and its count."""
EXACT = {"enable_fp_fusion": False}
"""For the compiler: no product is joined with the sum after it, which would round once where `plain_update.py` rounds
twice."""


def launch_packed(values: Values, form: tuple[Minifloat, Minifloat], start: int, numbers: StepNumbers) -> None:
    """Move a parameter whose moments are packed, from its value `start` on, a multiple of the block."""
    first, second = form
    count, rows = values.weight.numel(), VALUES // first.block
    with torch.cuda.device_of(values.weight):
        packed[(-(-count // VALUES),)](
            values.weight, values.gradient, *values.first, *values.second, values.factor, values.keys,
            count, start, *_scalars(numbers), first.largest, second.largest,
            EXPONENT1=first.exponent_bits, MANTISSA1=first.mantissa_bits,
            EXPONENT2=second.exponent_bits, MANTISSA2=second.mantissa_bits,
            BITS=first.bits, BLOCK=first.block, ROWS=rows, **EXACT,
        )  # fmt: skip


def launch_float32(values: Values, start: int, numbers: StepNumbers) -> None:
    """Move a parameter with moments in float32, from its value `start` on."""
    count = values.weight.numel()
    with torch.cuda.device_of(values.weight):
        float32[(-(-count // VALUES),)](
            values.weight, values.gradient, *values.first, *values.second, values.factor, values.keys,
            count, start, *_scalars(numbers), CHUNK=VALUES, **EXACT,
        )  # fmt: skip


def launch_group(group: Sequence[Values], numbers: StepNumbers) -> None:
    """Move several whole parameters with moments in float32 at once: their weights, and gradients, are of one type."""
    one = group[0]
    rows = [
        [
            *(each.data_ptr() for each in (v.weight, v.gradient, *v.first, *v.second, v.factor, v.keys)),
            v.weight.numel(),
        ]
        for v in group
    ]
    table = torch.tensor(rows, dtype=torch.int64)
    if one.weight.device.type == "cuda":
        table = table.pin_memory().to(one.weight.device, non_blocking=True)
    longest = max(v.weight.numel() for v in group)
    with torch.cuda.device_of(one.weight):
        float32_group[(-(-longest // VALUES), len(group))](
            table, one.weight, one.gradient, *_scalars(numbers), CHUNK=VALUES, FIELDS=FIELDS, **EXACT
        )


def _scalars(numbers: StepNumbers) -> tuple[float, ...]:
    return (
        numbers.kept,
        numbers.size,
        numbers.correction,
        numbers.share,
        numbers.beta2,
        numbers.share2,
        numbers.eps,
    )
