"""A compiled update is tried before it is trusted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from pi05.train.optim import low_memory
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.compiled_check import BLOCKS, SHORT, of_any_process, why_not_compiled
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind
from pi05.train.optim.portion import Forms, update_portion

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    pytest.mark.filterwarnings("ignore"),  # torch.compile's own
]


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


def test_the_run_says_how_its_update_runs() -> None:
    weights, schedule = {"w": nn.Parameter(torch.zeros(4))}, Schedule(peak=1e-3, warmup_steps=0, decay_steps=1, end=0.0)
    optimizer = LowMemoryOptimizer(weights, AdamSettings(), schedule, seed=1)
    assert optimizer.remark == ""
    optimizer.way = "kernel"
    assert optimizer.remark == "the update runs as kernels of its own"
    optimizer.way, optimizer.why_no_kernel = "compiled", of_any_process("no Triton")
    assert optimizer.remark == "the update is compiled, for want of kernels of its own (no Triton)"
    optimizer.way, optimizer.why_not_compiled = "plain", of_any_process("no compiler")
    wanted = (
        "the update is not compiled, which makes it slower (no compiler), for want of kernels of its own (no Triton)"
    )
    assert optimizer.remark == wanted
