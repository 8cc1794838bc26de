"""Compiled code is tried before layers are compiled unasked; a compiler that fails later is named with its flag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest
import torch
from block_attention import EITHER
from torch._inductor.exc import InductorError

from pi05 import train
from pi05.errors import TrainingError
from pi05.model.packed_keys import Varlen
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


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("varlen", EITHER.values(), ids=list(EITHER))
def test_attention_is_tried_in_each_way_that_the_device_has(varlen: Varlen) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, inputs: Any) -> Graph:
        graphs.append(graph)
        return graph.forward

    assert why_not_compiling(CPU, backend=count, varlen=varlen, head_dim=16) is None
    assert len(graphs) == 3  # masked, packed, and what else a layer does
    torch.compiler.reset()
    assert why_not_compiling(CPU, backend=count, head_dim=16) is None
    assert len(graphs) == 5


@pytest.mark.usefixtures("unchecked_shapes")
def test_attention_that_cannot_be_compiled_or_has_no_gradient_is_a_reason() -> None:
    def breaks(query: torch.Tensor, *_: Any) -> torch.Tensor:
        torch._dynamo.graph_break()
        return query

    told = why_not_compiling(CPU, backend="eager", varlen=Varlen(breaks, grouped=True))
    assert told is not None
    assert told.startswith("Unsupported: ")

    def nothing(query: torch.Tensor, *_: Any) -> torch.Tensor:
        return query / 0

    told = why_not_compiling(CPU, backend="eager", varlen=Varlen(nothing, grouped=True))
    assert told == "RuntimeError: attention left no gradient, or one that is not finite"


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
    unasked = InductorError(RuntimeError("no ptxas"), None)
    with pytest.raises(InductorError), compiler_faults(False):
        raise unasked


def test_the_optimizer_s_kernels_are_not_the_layers() -> None:
    def update(file: str) -> None:
        exec(compile("raise error", file, "exec"), {"error": InductorError(RuntimeError("no ptxas"), None)})

    optimizer = Path(train.__file__).parent / "optim" / "triton_update.py"
    assert optimizer.is_file()
    with pytest.raises(InductorError), compiler_faults(True):
        update(str(optimizer))
    with pytest.raises(TrainingError), compiler_faults(True):
        update("layers.py")
