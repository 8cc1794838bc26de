"""What a run says of itself before its first step."""

from __future__ import annotations

import torch
from torch import nn

from pi05.train.announce import compiled_part
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.compiled_check import of_any_process
from pi05.train.optim.low_memory import LowMemoryOptimizer
from pi05.train.step import TrainState


def test_the_run_says_whether_its_update_is_compiled() -> None:
    weights, schedule = {"w": nn.Parameter(torch.zeros(4))}, Schedule(peak=1e-3, warmup_steps=0, decay_steps=1, end=0.0)
    optimizer = LowMemoryOptimizer(weights, AdamSettings(), schedule, seed=1)
    state = TrainState(step=0, seed=0, model=nn.Identity(), optimizer=optimizer, ema=None)
    assert compiled_part(state) == ""
    optimizer.compiled = True
    assert compiled_part(state) == "; the update is compiled"
    optimizer.why_not_compiled = of_any_process("no compiler")
    assert compiled_part(state) == "; the update is not compiled, which makes it slower (no compiler)"
