"""On a GPU: the kernels of the update give the bits of the plain update on a CPU, and nothing waits for them."""

from __future__ import annotations

import pytest
import torch
from optimizer_kernels import SPECIAL, Update, assert_same
from torch import nn

from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.kernel_check import why_no_kernel
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind
from pi05.train.optim.way import Way

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("compiler")]
CUDA = torch.device("cuda")
KINDS: tuple[StateKind, ...] = ("float32", "8bit", "4bit")
DTYPES = (torch.float32, torch.bfloat16)
SCHEDULE = Schedule(peak=1e-3, warmup_steps=0, decay_steps=10, end=1e-4)


@pytest.mark.parametrize("gradient", DTYPES, ids=str)
@pytest.mark.parametrize("weight", DTYPES, ids=str)
@pytest.mark.parametrize("state", KINDS)
def test_a_kernel_gives_the_bits_of_the_plain_update(
    state: StateKind, weight: torch.dtype, gradient: torch.dtype
) -> None:
    """Of every form: millions of values with a rest, and small ones; then numbers of every sort among them."""
    assert_same(Update(state=state, weight=weight, gradient=gradient, counts=(2**21 + 77, 4097, 300, 1)), CUDA)
    assert_same(Update(state=state, weight=weight, gradient=gradient, counts=(4400, 300), special=SPECIAL), CUDA)


@pytest.mark.parametrize("state", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_run_trusts_the_kernels(state: StateKind, dtype: torch.dtype) -> None:
    assert why_no_kernel(CUDA, state, dtype) is None


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("state", KINDS)
def test_steps_wait_for_nothing_and_keep_no_memory(state: StateKind, release: bool, offload: bool) -> None:
    """A matrix and vectors, through the optimizer; only moments that come from host memory take any."""
    way: Way = "kernel"
    weights = {"matrix": nn.Parameter(torch.randn(4096, 4096, device=CUDA, dtype=torch.bfloat16))}
    weights |= {f"vector {index}": nn.Parameter(torch.randn(100 + index, device=CUDA)) for index in range(20)}
    optimizer = LowMemoryOptimizer(
        weights, AdamSettings(), SCHEDULE, seed=0, state=state, release=release, offload=offload, way=way
    )
    optimizer.start_from_norm(torch.ones((), device=CUDA))
    start = {name: value.detach().clone() for name, value in weights.items()}

    def step(number: int) -> None:
        optimizer.begin(number)
        torch.stack([value.float().square().mean() for value in weights.values()]).sum().backward()
        optimizer.apply(number)

    step(0)  # makes moments, compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    optimizer.begin(2)
    torch.cuda.synchronize()
    gradient, factor = torch.ones_like(weights["matrix"]), torch.ones((), device=CUDA)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    optimizer._move("matrix", gradient, factor, 2)
    back = optimizer.moment_bytes() if offload else 0
    assert torch.cuda.max_memory_allocated() - before <= back + 2**20
    assert all(not torch.equal(start[name], value) for name, value in weights.items())
    assert all(bool(value.isfinite().all()) for value in weights.values())
