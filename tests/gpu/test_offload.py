"""On a GPU: moments in host memory give the steps of moments on the device, bit for bit, and take no memory there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind

pytestmark = pytest.mark.gpu
SCHEDULE = Schedule(peak=1e-3, warmup_steps=0, decay_steps=10, end=1e-4)


@pytest.mark.parametrize("kind", ["float32", "8bit", "4bit"])
@pytest.mark.parametrize("release", [False, True])
def test_offloaded_moments_change_nothing(kind: StateKind, release: bool) -> None:
    found, kept = [], []
    for offload in (False, True):
        generator = torch.Generator().manual_seed(0)
        weight = nn.Parameter(torch.randn(3000, 3000, generator=generator).to("cuda", torch.bfloat16))
        optimizer = LowMemoryOptimizer(
            {"w": weight}, AdamSettings(), SCHEDULE, seed=0, state=kind, offload=offload, release=release
        )
        before = torch.cuda.memory_allocated()
        for step in range(4):
            for _ in range(1 + optimizer.measures_first):
                optimizer.begin(step)
                generator.manual_seed(step)
                x = torch.randn(16, 3000, generator=generator).to("cuda", torch.bfloat16)
                (x @ weight).float().square().mean().backward()
                optimizer.apply(step)
        optimizer.begin(4)
        kept.append(torch.cuda.memory_allocated() - before)
        found.append({"w": weight.detach().cpu(), **{name: part.cpu() for name, part in optimizer.tensors().items()}})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert kept[0] - kept[1] > 0.9 * optimizer.moment_bytes()


def test_the_step_does_not_wait_for_the_device() -> None:
    weight = nn.Parameter(torch.randn(512, 512, device="cuda", dtype=torch.bfloat16))
    optimizer = LowMemoryOptimizer({"w": weight}, AdamSettings(), SCHEDULE, seed=0, state="8bit", offload=True)
    weight.grad = torch.randn_like(weight)
    optimizer.apply(0)  # allocates
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.apply(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
