"""The update as compiled code: the same steps as operation by operation but for roundings, few compilations, no waits.

Compiled for this CPU, which training itself does not do (docs/decisions/0004-optimizer-memory.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from waits import Waits

from pi05.train.optim import low_memory
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.compiled_check import BLOCKS, SHORT, of_any_process, why_not_compiled
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind
from pi05.train.optim.portion import Forms, update_portion

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
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["float32", "8bit", "4bit"])
def test_compiled_it_takes_the_same_steps(kind: StateKind, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a rounding of float32; stopped and continued bit for bit; one compilation for every kind at most.

    What one test compiled serves the others.
    """
    torch._dynamo.utils.counters.clear()
    monkeypatch.setitem(low_memory.PORTION, "cpu", 2**13)
    start, plain, fused, halved = (parameters(dtype) for _ in range(4))
    walk(plain, LowMemoryOptimizer(plain, SETTINGS, SCHEDULE, seed=1, state=kind), range(4))
    walk(fused, LowMemoryOptimizer(fused, SETTINGS, SCHEDULE, seed=1, state=kind, compiled=True), range(4))
    for name, value in fused.items():
        error, movement = ((value - one[name]).detach().abs().float() for one in (plain, start))
        assert float(error.mean()) < 1e-3 * float(movement.mean())
        assert float((error > 3e-7).float().mean()) < 1e-3, "but for what was rounded to the other side"
    first = LowMemoryOptimizer(halved, SETTINGS, SCHEDULE, seed=1, state=kind, compiled=True)
    walk(halved, first, range(2))
    second = LowMemoryOptimizer(halved, SETTINGS, SCHEDULE, seed=1, state=kind, compiled=True)
    second.load_tensors({name: value.clone() for name, value in first.tensors().items()})
    walk(halved, second, range(2, 4))
    assert all(torch.equal(fused[name], halved[name]) for name in fused)
    kinds = {(value.dtype, kind != "float32" and value.numel() >= low_memory.SMALLEST) for value in fused.values()}
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= len(kinds)
    assert not torch._dynamo.utils.counters["graph_break"]


def test_what_goes_into_compiled_code_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code itself is one graph (above), which cannot read a value back; a count cannot look into it."""
    monkeypatch.setattr(low_memory, "compiled_update", partial(partial, update_portion))
    values = parameters(torch.bfloat16)
    optimizer = LowMemoryOptimizer(values, SETTINGS, SCHEDULE, seed=1, state="8bit", compiled=True)
    walk(values, optimizer, range(1))
    generator = torch.Generator().manual_seed(9)
    for value in values.values():
        value.grad = torch.randn(value.shape, generator=generator).to(value.dtype)
    with Waits() as waits:
        optimizer.apply(1)
    assert waits.found == {"aten.lift_fresh.default": 1}, "the table of keys, made in host memory"


@pytest.mark.slow
def test_compiled_it_takes_the_same_steps_during_the_backward_pass() -> None:
    """With gradient release, bfloat16 matrices and a float32 vector, through autograd's hooks."""
    torch._dynamo.utils.counters.clear()
    assert why_not_compiled(torch.device("cpu"), "8bit", torch.bfloat16, release=True) is None
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["float32", "8bit", "4bit"])
def test_what_is_compiled_is_the_same_update(
    kind: StateKind, dtype: torch.dtype, release: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function that would be compiled, run as it is, passes the check of a run's start; a wrong one does not."""
    cpu = torch.device("cpu")
    monkeypatch.setattr(low_memory, "compiled_update", partial(partial, update_portion))
    assert why_not_compiled(cpu, kind, dtype, release) is None

    def wrong_for(count: int) -> Callable[..., None]:
        """Return an update that leaves a vector of `count` values as it is."""

        def update(form: Forms, betas: tuple[float, float], eps: float, weight: torch.Tensor, *rest: Any) -> None:
            if weight.numel() != count:
                update_portion(form, betas, eps, weight, *rest)

        return update

    for count, name in ((SHORT, "vector"), (BLOCKS, "")):
        monkeypatch.setattr(low_memory, "compiled_update", partial(partial, wrong_for(count)))
        assert f"other weights ({name}" in str(why_not_compiled(cpu, kind, dtype, release))


def test_every_device_is_tried_before_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not compile is named, and the run goes on operation by operation."""

    def broken(*_: object) -> None:
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(low_memory, "compiled_update", lambda *_: broken)
    assert why_not_compiled(torch.device("cpu"), "8bit", torch.bfloat16) == "RuntimeError: no compiler"


def test_the_run_says_whether_its_update_is_compiled() -> None:
    values = parameters(torch.float32)
    optimizer = LowMemoryOptimizer(values, SETTINGS, SCHEDULE, seed=1)
    assert optimizer.remark == ""
    optimizer.compiled = True
    assert optimizer.remark == "the update is compiled"
    optimizer.why_not_compiled = of_any_process("no compiler")
    assert optimizer.remark == "the update is not compiled, which makes it slower (no compiler)"
