"""The optimizer's update on shapes: what it needs for itself, and what it reads and writes, by the way it runs.

A kernel reads and writes each of its own tensors once; so does PyTorch's fused AdamW. Code that torch.compile makes,
and single operations, store what is between: those bytes are counted by `benchmarks/optimizer_update.py`. Leaves out
which way a run takes (`counted_on.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pi05.train.config import TrainConfig
from pi05.train.optim.adamw import AdamSettings, AdamW
from pi05.train.optim.build import adam_settings, build_low_memory, matrix_dtype
from pi05.train.optim.kernel_values import Values
from pi05.train.optim.low_memory import PORTION, PortionKind, state_bytes
from pi05.train.optim.minifloat import FORMATS, SMALLEST
from pi05.train.optim.moments import Moment, ParameterState
from pi05.train.optim.plain_update import StepNumbers, move_plain
from pi05.train.optim.protocol import Optimizer
from pi05.train.optim.way import Way
from pi05.train.plan.live_memory import LiveStorage
from pi05.train.resume import build_schedule

META = torch.device("meta")
STORED: dict[tuple[torch.dtype, str], dict[Way, float]] = {
    (torch.float32, "float32"): {"plain": 156.0, "compiled": 28.0},
    (torch.float32, "8bit"): {"plain": 720.3, "compiled": 74.3},
    (torch.float32, "4bit"): {"plain": 743.3, "compiled": 83.0},
    (torch.bfloat16, "float32"): {"plain": 360.0, "compiled": 22.0},
    (torch.bfloat16, "8bit"): {"plain": 796.3, "compiled": 66.3},
    (torch.bfloat16, "4bit"): {"plain": 819.3, "compiled": 77.0},
}
"""Bytes for each value, by precision of weight and kind of moments: the newest `benchmarks/results/optimizer_update`,
of which a test knows. No kernel was written for these, and no GPU measured."""


def bytes_of_update(config: TrainConfig, parameters: Iterable[Tensor], way: Way | None) -> int:
    """Return what the update reads and writes on the device in a step: weights, gradients, moments.

    `way` is None for PyTorch's own AdamW. Moments in host memory, which cross the bus at a tenth of the rate, are left
    out for kernels; what the other ways store between is the same for a portion that has come from there.
    """
    return round(sum(value.numel() * _bytes_of_value(config, value, way) for value in parameters))


def bytes_of_clipping(parameters: Iterable[Tensor], way: Way | None) -> int:
    """Return what clipping reads and writes beside the update: the norm reads the gradients.

    PyTorch's own AdamW has them multiplied before, which reads and writes them; ours multiplies as it goes.
    """
    return (3 if way is None else 1) * sum(value.nbytes for value in parameters)


def _bytes_of_value(config: TrainConfig, parameter: Tensor, way: Way | None) -> float:
    count = parameter.numel()
    if way in ("plain", "compiled"):
        kind = config.optimizer_state if count >= SMALLEST else "float32"
        return STORED[parameter.dtype, kind][way]
    moments = 0.0 if config.optimizer_offload else state_bytes(count, config.optimizer_state) / count
    return 3 * parameter.element_size() + 2 * moments


def plain_temporaries(config: TrainConfig, largest: int) -> int:
    """Return what the update needs for itself where it runs operation by operation: for a portion at a time.

    `largest` is the number of values of the largest parameter.
    """
    count, state = min(largest, PORTION["cuda"]), config.optimizer_state
    weight, gradient = (torch.empty(count, dtype=matrix_dtype(config), device=META) for _ in range(2))
    kinds = (None, None) if state == "float32" or largest < SMALLEST else FORMATS[state]
    for kind in kinds:
        if kind is not None:
            kind.table(META)  # of its codes, made once and for all: no part of an update
    first, second = (Moment(weight, kind, offload=False) for kind in kinds)
    moments = ParameterState(first, second)
    numbers = StepNumbers.of(AdamSettings(), 0.0, 1)
    tracker = LiveStorage()
    tracker.adopt((weight, gradient, *moments.first.parts, *moments.second.parts), "held")
    with tracker, tracker.growth() as growth:
        move_plain(weight, gradient, torch.ones((), device=META), moments, 0, [(0, 0), (0, 0)], numbers)
    return growth()


def read_back_bytes(config: TrainConfig, largest: int) -> int:
    """Return what moments from host memory take on the device at once: a portion of both, in float32 at most.

    `largest` is the number of values of the largest parameter.
    """
    return 2 * 4 * min(PORTION["cuda"], largest) if config.optimizer_offload else 0


def optimizer_on_meta(
    config: TrainConfig, parameters: Mapping[str, nn.Parameter], tracker: LiveStorage, way: Way | None
) -> Optimizer:
    """Return the optimizer as a run has it, with nothing in the place of kernels; `meta` needs no host memory.

    Compiled code is taken for the plain update, which needs as much or more for itself.
    """
    schedule = build_schedule(config, {})
    if way is None:
        return AdamW(parameters, adam_settings(config), schedule)
    largest = max(value.numel() for value in parameters.values())
    read_back = read_back_bytes(config, largest)
    return build_low_memory(
        config,
        parameters,
        schedule,
        way="kernel" if way == "kernel" else "plain",
        offload=False,
        run_portion=_EachKindOnce(tracker, read_back),
        launches=_NoLaunch(tracker, read_back),
    )


class _EachKindOnce:
    """Lets the optimizer work on one portion of each kind only; the rest of them take the same memory.

    `read_back` is what a portion's moments take on the device when they come from host memory, in bytes.
    """

    def __init__(self, tracker: LiveStorage, read_back: int) -> None:
        self._tracker, self._read_back = tracker, read_back
        self._known: dict[PortionKind, int] = {}

    def __call__(self, kind: PortionKind, update: Callable[[], None]) -> None:
        if kind in self._known:
            with self._tracker.extra(self._read_back + self._known[kind]):
                return
        with self._tracker.extra(self._read_back), self._tracker.growth() as growth:
            update()
        self._known[kind] = growth()


class _NoLaunch:
    """Stands for the update's kernels, which need nothing for themselves; moments from host memory pass through."""

    def __init__(self, tracker: LiveStorage, read_back: int) -> None:
        self._tracker, self._read_back = tracker, read_back

    def launch_packed(self, *_: Any) -> None:
        """A parameter with packed moments."""
        with self._tracker.extra(self._read_back):
            pass

    def launch_float32(self, *_: Any) -> None:
        """A parameter with moments in float32."""
        with self._tracker.extra(self._read_back):
            pass

    def launch_group(self, group: Sequence[Values], *_: Any) -> None:
        """Small parameters, at the end of the step."""
