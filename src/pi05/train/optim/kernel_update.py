"""The update by kernels written for it: one launch for each large parameter, one for all small ones of a kind.

Small vectors wait for the end of the step, with what they are to be multiplied by. Nothing here waits for the device.
Leaves out the kernels (`triton_update.py`), which take Triton, and whether they are trusted (`kernel_check.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from pi05.train.optim.kernel_values import Values
from pi05.train.optim.minifloat import SMALLEST, Minifloat
from pi05.train.optim.moments import ParameterState
from pi05.train.optim.plain_update import StepNumbers
from pi05.train.optim.stochastic_rounding import KeyTable

Kind = tuple[torch.dtype, torch.dtype, StepNumbers]
"""Precision of weight and gradient, and the step's numbers: what a group has in common."""


@runtime_checkable
class Launches(Protocol):
    """What moves values: `triton_update.py`, or what stands for it where nothing is moved (the planner)."""

    def launch_packed(
        self, values: Values, form: tuple[Minifloat, Minifloat], start: int, numbers: StepNumbers, /
    ) -> None:
        """Move a parameter whose moments are packed, from its value `start` on."""

    def launch_float32(self, values: Values, start: int, numbers: StepNumbers, /) -> None:
        """Move a parameter with moments in float32, from its value `start` on."""

    def launch_group(self, group: Sequence[Values], numbers: StepNumbers, /) -> None:
        """Move several whole parameters with moments in float32 at once."""


def kernels() -> Launches:
    """Return the kernels. Raises ImportError where there is no Triton."""
    from pi05.train.optim import triton_update

    return cast(Launches, triton_update)


class KernelUpdate:
    """Moves the parameters of an optimizer, by `move` one after the other, and by `finish` at the end of a step."""

    def __init__(self, names: Sequence[str], seed: int, launches: Launches | None = None) -> None:
        self._kernels = kernels() if launches is None else launches
        self._keys = KeyTable(names, seed)
        self._waiting: dict[Kind, list[Values]] = {}

    def begin(self) -> None:
        """Forget what a step that was broken off has left."""
        self._waiting.clear()

    def move(
        self,
        name: str,
        weight: Tensor,
        gradient: Tensor,
        factor: Tensor,
        state: ParameterState,
        update: int,
        numbers: StepNumbers,
        portion: int,
    ) -> None:
        """Take the step of one parameter, flat, and of its moments; from host memory they come `portion` at a time."""
        keys, count = self._keys.of(name, update, weight.device), len(weight)
        form = None if state.first.kind is None or state.second.kind is None else (state.first.kind, state.second.kind)
        step = portion if state.first.offloaded else max(count, 1)
        for start in range(0, count, step):
            here = slice(start, min(start + step, count))
            length = here.stop - start
            values = Values(
                weight=weight[here],
                gradient=gradient[here],
                first=state.first.on_device(start, length),
                second=state.second.on_device(start, length),
                factor=factor,
                keys=keys,
            )
            if form is not None:
                self._kernels.launch_packed(values, form, start, numbers)
            elif count < SMALLEST and not state.first.offloaded:
                self._waiting.setdefault((weight.dtype, gradient.dtype, numbers), []).append(values)
            else:
                self._kernels.launch_float32(values, start, numbers)
            state.first.put_back(start, length, values.first)
            state.second.put_back(start, length, values.second)
            del values  # before the next portion comes from host memory: one is on the device, and counted, at a time

    def finish(self) -> None:
        """Move the small parameters that have been collected."""
        for (_, _, numbers), group in self._waiting.items():
            self._kernels.launch_group(group, numbers)
        self._waiting.clear()
