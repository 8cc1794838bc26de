"""The low-memory update on this GPU, for `gpu_day.py`: each way that it can run, alone."""

from __future__ import annotations

import statistics
import time
from itertools import product
from typing import Any, get_args

import torch
from gpu_run import SCHEDULE, Bench

from pi05.train.optim.adamw import AdamSettings
from pi05.train.optim.kernel_check import why_no_kernel
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind
from pi05.train.optim.way import Way
from pi05.train.plan.gpus import GIB


def update(bench: Bench) -> dict[str, Any]:
    """The low-memory update alone, by kernels of its own, compiled, and operation by operation: times and memory.

    Two matrices of the language model's MLP and three hundred vectors. A CPU has the last way only. Compiled
    are 8-bit moments alone: every form takes half a minute of that.
    """
    found: dict[str, Any] = {}
    rows = 16384 if bench.on_gpu else 64
    sizes: list[tuple[int, ...]] = [(rows, 2048 if bench.on_gpu else 64)] * 2 + [(2048 if bench.on_gpu else 16,)] * 300
    for dtype, state in product((torch.float32, torch.bfloat16), get_args(StateKind)):
        ways: list[Way] = [each for each in get_args(Way) if bench.on_gpu and (each != "compiled" or state == "8bit")]
        plain: list[Way] = ["plain"]
        for way in ways or plain:
            case = f"{str(dtype).removeprefix('torch.')} weights, {state} moments, {way}"
            try:
                found[case] = _update_of(bench, sizes, dtype, state, way)
            except Exception as error:  # the other ways are worth having
                found[case] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
            bench.clean()
    if bench.on_gpu:
        found["refused"] = {state: why_no_kernel(bench.device, state, torch.bfloat16) for state in get_args(StateKind)}
    return found


def _update_of(
    bench: Bench, sizes: list[tuple[int, ...]], dtype: torch.dtype, state: StateKind, way: Way
) -> dict[str, Any]:
    """Time the update of some tensors one way: until it is queued, and until it is done."""
    kinds = [dtype if len(size) > 1 else torch.float32 for size in sizes]
    weights = {
        str(index): torch.nn.Parameter(torch.randn(size, device=bench.device, dtype=kind))
        for index, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
    }
    gradients = {name: torch.randn_like(value) for name, value in weights.items()}
    optimizer = LowMemoryOptimizer(weights, AdamSettings(), SCHEDULE, seed=0, state=state, way=way)
    taken = 0

    def step() -> float:
        nonlocal taken
        for name, value in weights.items():
            value.grad = gradients[name]
        started = time.perf_counter()
        optimizer.apply(taken)
        taken += 1
        return 1e3 * (time.perf_counter() - started)

    started = time.perf_counter()
    step()
    bench.wait()
    first = time.perf_counter() - started
    before = 0
    if bench.on_gpu:  # what compiling, or a kernel's tuning, took in the first step is no part of the others
        torch.cuda.reset_peak_memory_stats(bench.device)
        before = torch.cuda.memory_allocated(bench.device)
    elapsed = bench.timed(step)
    hosts = []
    for _ in range(3):
        bench.wait()
        hosts.append(step())
    bench.wait()
    values = sum(value.numel() for value in weights.values())
    row = {"first_step_s": first, "ms": elapsed, "host_ms": statistics.median(hosts), "values": values}
    if bench.on_gpu:
        row["temporary_gib"] = (torch.cuda.max_memory_allocated(bench.device) - before) / GIB
    return row
