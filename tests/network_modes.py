"""The ways in which a network may compute: as it is, with recomputed activations, compiled, and both together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jaxtyping
import pytest
import torch

from pi05.model.pi05 import Pi05
from pi05.train.activations import apply_from_outside
from pi05.train.memory_config import Degree


@dataclass(frozen=True)
class Mode:
    """What is applied to the layers from outside."""

    recomputed: Degree = 0.0
    backend: str | None = None
    """None: not compiled. `aot_eager` traces forward and backward as `inductor` does, and runs them without its C++."""


def compiled(mode: Mode, name: str, *marks: Any) -> Any:
    return pytest.param(mode, id=name, marks=[pytest.mark.filterwarnings("ignore"), *marks])  # torch.compile's own


MODES = (
    pytest.param(Mode(), id="as it is"),
    pytest.param(Mode("selective"), id="selective"),
    pytest.param(Mode(1.0), id="recomputed"),
    compiled(Mode(0.0, "aot_eager"), "traced", pytest.mark.slow),
    compiled(Mode("selective", "inductor"), "compiled, selective", pytest.mark.slow),
)
"""Every mode must give the peers' numbers. A second cold compilation costs minutes and shows no more: selective is the
harder one, and `test_train_step_golden` compiles without it."""
FEW_MODES = (MODES[0], MODES[1], MODES[3])
"""Where a mode is not the point: Inductor's C++ takes some minutes per network, tracing seconds per test. Without
`--slow` tracing is shown by `test_train_step_golden`, in float32 and mixed."""


@contextmanager
def in_mode(model: Pi05, mode: Mode) -> Iterator[Pi05]:
    """Apply a mode to a network for the duration of a `with` block.

    The tests' checks of shapes rest meanwhile when it is compiled: Dynamo cannot trace them. Fails when the compiler
    left a layer in pieces.
    """
    if mode.backend is None:
        apply_from_outside(model, compile_layers=False, recompute_activations=mode.recomputed)
        yield model
        return
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    apply_from_outside(model, compile_layers=True, recompute_activations=mode.recomputed, backend=mode.backend)
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield model
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
    assert not torch._dynamo.utils.counters["graph_break"]


def compilations() -> int:
    """Return how many pieces of code were compiled since the mode was applied."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
