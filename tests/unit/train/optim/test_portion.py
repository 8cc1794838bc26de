"""The update as compiled code: the same steps as operation by operation but for roundings, few compilations.

Compiled for this CPU, which training itself does not do (docs/decisions/0004-optimizer-memory.md).
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pi05.train.optim import low_memory
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind

SCHEDULE = Schedule(peak=1e-3, warmup_steps=2, decay_steps=10, end=1e-4)
SETTINGS = AdamSettings(weight_decay=0.1)

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    pytest.mark.filterwarnings("ignore"),  # torch.compile's own
]


def parameters(dtype: torch.dtype) -> dict[str, nn.Parameter]:
    """Return matrices of whole blocks, one with a rest, and a vector whose moments are not packed."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"matrix": (64, 256), "other": (40, 512), "rest": (83, 70), "bias": (30,)}
    return {
        name: nn.Parameter(torch.randn(size, generator=generator).to(torch.float32 if len(size) == 1 else dtype))
        for name, size in sizes.items()
    }


def walk(values: dict[str, nn.Parameter], optimizer: LowMemoryOptimizer, steps: range) -> None:
    for number in steps:
        optimizer.begin(number)
        generator = torch.Generator().manual_seed(number)
        for value in values.values():
            value.grad = torch.randn(value.shape, generator=generator).to(value.dtype)
        optimizer.apply(number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "dtype"), [("float32", torch.bfloat16), ("8bit", torch.bfloat16), ("4bit", torch.float32)]
)
def test_compiled_it_takes_the_same_steps(kind: StateKind, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a rounding of float32; stopped and continued bit for bit; one compilation for every kind at most.

    What one test compiled serves the others.
    """
    torch._dynamo.utils.counters.clear()
    monkeypatch.setitem(low_memory.PORTION, "cpu", 2**13)
    start, plain, fused, halved = (parameters(dtype) for _ in range(4))
    walk(plain, LowMemoryOptimizer(plain, SETTINGS, SCHEDULE, seed=1, state=kind), range(4))
    walk(fused, LowMemoryOptimizer(fused, SETTINGS, SCHEDULE, seed=1, state=kind, way="compiled"), range(4))
    for name, value in fused.items():
        error, movement = ((value - one[name]).detach().abs().float() for one in (plain, start))
        assert float(error.mean()) < 1e-3 * float(movement.mean())
        assert float((error > 3e-7).float().mean()) < 1e-3, "but for what was rounded to the other side"
    first = LowMemoryOptimizer(halved, SETTINGS, SCHEDULE, seed=1, state=kind, way="compiled")
    walk(halved, first, range(2))
    second = LowMemoryOptimizer(halved, SETTINGS, SCHEDULE, seed=1, state=kind, way="compiled")
    second.load_tensors({name: value.clone() for name, value in first.tensors().items()})
    walk(halved, second, range(2, 4))
    assert all(torch.equal(fused[name], halved[name]) for name in fused)
    kinds = {(value.dtype, kind != "float32" and value.numel() >= low_memory.SMALLEST) for value in fused.values()}
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= len(kinds)
    assert not torch._dynamo.utils.counters["graph_break"]
