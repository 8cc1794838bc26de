"""Compiled code is tried before layers are compiled unasked; a compiler that fails later is named with its flag."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CalledProcessError
from typing import Any

import pytest
import torch
from torch._inductor.exc import InductorError

from pi05.errors import TrainingError
from pi05.train.plan.compile_trial import compiler_faults, why_not_compiling

CPU = torch.device("cpu")
Graph = Callable[..., tuple[torch.Tensor, ...]]


def wrong_code(graph: Graph, inputs: Any) -> Graph:
    """Stand for a compiler whose code computes something else."""
    return lambda *arguments: tuple(result * result for result in graph(*arguments))


def no_code(graph: Graph, inputs: Any) -> Graph:
    raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")


@pytest.mark.usefixtures("unchecked_shapes")
def test_the_trial_tells_a_compiler_that_fails_from_one_that_works() -> None:
    assert why_not_compiling(CPU, backend="eager") is None
    assert why_not_compiling(CPU, backend=no_code) == "RuntimeError: Failed to find C compiler."
    assert str(why_not_compiling(CPU, backend=wrong_code)).startswith("compiled, gradients differ by ")


@pytest.mark.parametrize("asked", [None, True])
@pytest.mark.parametrize(
    "error", [InductorError(RuntimeError("no ptxas\nat all"), None), CalledProcessError(1, ["gcc", "main.c"])]
)
def test_a_compiler_that_fails_in_a_run_is_named_with_the_flag(error: Exception, asked: bool | None) -> None:
    with pytest.raises(TrainingError) as raised, compiler_faults(asked):
        raise error
    assert "--policy.compile_model=false" in raised.value.render()
    assert ("no ptxas" if isinstance(error, InductorError) else "'gcc', 'main.c'") in raised.value.render()
    assert "at all" not in raised.value.render()
    assert ("as asked for" in raised.value.render()) == (asked is True)


def test_what_the_compiler_has_not_done_stays_what_it_is() -> None:
    faults: list[Exception] = [
        RuntimeError("CUDA error: an illegal memory access"),
        torch.OutOfMemoryError("CUDA out of memory"),
        InductorError(RuntimeError("CUDA out of memory"), None),
        TrainingError("no", remedy="none"),
    ]
    for error in faults:
        with pytest.raises(type(error)) as raised, compiler_faults(None):
            raise error
        assert raised.value is error
    of_the_update = InductorError(RuntimeError("no ptxas"), None)
    with pytest.raises(InductorError), compiler_faults(False):
        raise of_the_update
