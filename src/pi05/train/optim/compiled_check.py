"""Whether the optimizer's update can be compiled on this machine: it is tried, and compared, before the first step.

Compiling for a GPU takes Triton, a C compiler and Python's headers, and code that nobody has looked at runs then: so a
few steps are taken both ways. Where it fails, the same update runs operation by operation, slower; the run says so.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind
from pi05.train.optim.way import Way

BLOCKS, REST, SHORT = 2**14, 70, 512
"""Values: of a matrix of whole blocks, those left over in another, and those of a vector."""
STEPS, RATE = 3, 1e-3
WAYS: tuple[Way, Way] = ("plain", "compiled")
LARGEST = 1e-3
"""A parameter's mean difference over its mean movement. What is rounded to the other side by chance stays below a
tenth of it."""


def why_not_compiled(device: torch.device, state: StateKind, dtype: torch.dtype, release: bool = False) -> str | None:
    """Return None where the compiled update moves weights as the other does, else the reason. Waits for the device."""
    try:
        plain, fused = (_walk(device, state, dtype, release, way) for way in WAYS)
        differences = {name: float((value - fused[name]).abs().mean()) for name, value in plain.items()}
    except Exception as error:  # whatever a compiler, its driver or the launch of its code raises
        return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    for name, difference in differences.items():
        if not difference <= LARGEST * RATE * STEPS:
            return (
                f"compiled, it leads to other weights ({name}): "
                f"{difference:.1e} on average after {STEPS} steps of {RATE:g}"
            )
    return None


def of_any_process(reason: str | None) -> str | None:
    """Return the first process's reason against a way: all take it or none, for all have to hold the same weights."""
    if not (dist.is_available() and dist.is_initialized()):
        return reason
    reasons: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(reasons, reason)
    return next((one for one in reasons if one is not None), None)


def _walk(
    device: torch.device, state: StateKind, dtype: torch.dtype, release: bool, way: Way
) -> dict[str, torch.Tensor]:
    """Take a few steps, backward passes included, from ones with gradients of both signs; return weights in float32.

    The parameters are those that a run mixes: matrices of whole blocks and of more, and a vector in float32.
    """
    schedule = Schedule(peak=RATE, warmup_steps=0, decay_steps=10, end=RATE)
    kinds = {
        "whole blocks": (BLOCKS, dtype),
        "blocks and a rest": (BLOCKS + REST, dtype),
        "vector": (SHORT, torch.float32),
    }
    weights = {name: nn.Parameter(torch.ones(n, dtype=kind, device=device)) for name, (n, kind) in kinds.items()}
    slopes = {name: torch.linspace(-1, 1, n, device=device) for name, (n, _) in kinds.items()}
    optimizer = LowMemoryOptimizer(weights, AdamSettings(), schedule, seed=0, state=state, release=release, way=way)
    for number in range(STEPS):
        passes = 2 if optimizer.measures_first else 1
        for _ in range(passes):
            optimizer.begin(number)
            losses = [((number + 1) * slopes[name] * weight.float()).sum() for name, weight in weights.items()]
            torch.stack(losses).sum().backward()
            optimizer.apply(number)
    return {name: weight.detach().float() for name, weight in weights.items()}
