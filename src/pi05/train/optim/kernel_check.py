"""Whether the kernels of the update can be trusted on this device: tried before the first step, and compared.

A few steps with a few blocks are taken by the kernels, and operation by operation on the CPU: weights and moments must
be the same, bit for bit. Where they are not, or where Triton or what it needs is missing, the run takes another way
(`build.py`) and says so. Numbers too small for float32's full precision are left out: they move no weight.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from pi05.train.optim.adamw import AdamSettings
from pi05.train.optim.kernel_update import KernelUpdate
from pi05.train.optim.minifloat import FORMATS, Minifloat
from pi05.train.optim.moments import Moment, ParameterState
from pi05.train.optim.plain_update import StepNumbers, move_plain
from pi05.train.optim.stochastic_rounding import USES, rounding_key

LARGE, SMALL = 4096 + 3 * 256 + 70, (1, 70, 1500)
"""Values: of a tensor with a launch of its own, whose last block is not whole, and of a group's."""
STEPS, RATE, FACTOR, SEED = 3, 1e-3, 0.37, 5
Form = tuple[Minifloat | None, Minifloat | None]


def why_no_kernel(device: torch.device, state: str, dtype: torch.dtype) -> str | None:
    """Return None where the kernels' bits are those of `plain_update.py` on a CPU, else the reason.

    Waits for the device.
    `state` is the kind of the moments, `dtype` that of the matrices; vectors are in float32.
    """
    forms: list[Form] = [(None, None)]
    if state != "float32":
        forms.append(FORMATS[state])
    try:
        for form, kind in product(forms, dict.fromkeys((dtype, torch.float32))):
            for sizes in ((LARGE,), SMALL) if form == (None, None) else ((LARGE,),):
                different = _compare(device, form, kind, sizes)
                if different is not None:
                    return different
    except Exception as error:  # whatever a compiler, its driver or the launch of its code raises
        return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    return None


def _compare(device: torch.device, form: Form, dtype: torch.dtype, sizes: tuple[int, ...]) -> str | None:
    """Take steps both ways with tensors of these sizes; say what differs, if anything does."""
    cpu = torch.device("cpu")
    generator = torch.Generator().manual_seed(SEED)
    names = [str(number) for number in range(len(sizes))]
    drawn = [torch.randn(size, generator=generator).to(dtype) for size in sizes]
    plain, ours = ([each.to(where, copy=True) for each in drawn] for where in (cpu, device))
    states = [
        [ParameterState(Moment(each, form[0], False), Moment(each, form[1], False)) for each in side]
        for side in (plain, ours)
    ]
    kernels = KernelUpdate(names, SEED)
    for number in range(STEPS):
        numbers = StepNumbers.of(AdamSettings(weight_decay=0.1), RATE, number + 1)
        for index, name in enumerate(names):
            draws = torch.randn(2, sizes[index], generator=generator)
            gradient = (draws[0] * torch.exp(2 * draws[1] - 5)).to(dtype)
            gradient[::7] = 0.0
            keys = [rounding_key(SEED, number, f"{name}/{use}") for use in USES]
            move_plain(plain[index], gradient, torch.tensor(FACTOR), states[0][index], 0, keys, numbers)
            factor = torch.full((), FACTOR, device=device)
            kernels.move(
                name, ours[index], gradient.to(device), factor, states[1][index], number, numbers, LARGE
            )  # fmt: skip
        kernels.finish()
    packed = "float32" if form[0] is None else f"{form[0].bits}-bit"
    for index in range(len(sizes)):
        one, other = (_parts(side[index], state[index]) for side, state in zip((plain, ours), states, strict=True))
        for what, wanted in one.items():
            different = int((wanted != other[what].cpu()).sum())
            if different:
                return (
                    f"the kernel leads to other {what}: {different} of {wanted.numel()} differ, "
                    f"{packed} moments, {str(dtype).removeprefix('torch.')} weights"
                )
    return None


def _parts(weight: Tensor, state: ParameterState) -> dict[str, Tensor]:
    """Return what an update changes, by name."""
    found = {"weights": weight}
    for moment, value in (("first", state.first), ("second", state.second)):
        labels = ("moments",) if value.kind is None else ("codes", "scales")
        found.update({f"{moment} {label}": part for label, part in zip(labels, value.parts, strict=True)})
    return found
