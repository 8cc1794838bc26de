"""Whether the optimizer's update can be compiled on this machine: it is tried, and compared, before the first step.

Compiling for a GPU takes Triton, a C compiler and Python's headers, and code that nobody has looked at runs then: so a
few steps are taken both ways. Where it fails, the same update runs operation by operation, slower; the run says so.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from pi05.train.low_memory import LowMemoryOptimizer, StateKind
from pi05.train.optimizer import AdamSettings, Schedule

COUNT, STEPS, RATE = 2**14, 3, 1e-3
LARGEST = 1e-3
"""Mean difference of the weights over their mean movement. What is rounded to the other side by chance stays below a
tenth of it."""


def why_not_compiled(device: torch.device, state: StateKind, dtype: torch.dtype) -> str | None:
    """Return None where the compiled update moves weights as the other does, else the reason. Waits for the device."""
    try:
        plain, fused = (_walk(device, state, dtype, compiled) for compiled in (False, True))
    except Exception as error:  # whatever a compiler, its driver or the launch of its code raises
        return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    difference = float((plain - fused).abs().mean())
    if not difference <= LARGEST * RATE * STEPS:
        return f"compiled, it leads to other weights: {difference:.1e} on average after {STEPS} steps of {RATE:g}"
    return None


def of_any_process(reason: str | None) -> str | None:
    """Return the first process's reason not to compile: all compile or none, for all have to hold the same weights."""
    if not (dist.is_available() and dist.is_initialized()):
        return reason
    reasons: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(reasons, reason)
    return next((one for one in reasons if one is not None), None)


def _walk(device: torch.device, state: StateKind, dtype: torch.dtype, compiled: bool) -> torch.Tensor:
    """Take a few steps from ones with gradients of one sign each; return the weights in float32."""
    schedule = Schedule(peak=RATE, warmup_steps=0, decay_steps=10, end=RATE)
    weight = nn.Parameter(torch.ones(COUNT, dtype=dtype, device=device))
    optimizer = LowMemoryOptimizer({"w": weight}, AdamSettings(), schedule, seed=0, state=state, compiled=compiled)
    slope = torch.linspace(-1, 1, COUNT, device=device)
    for number in range(STEPS):
        optimizer.begin(number)
        weight.grad = (slope * (number + 1)).to(dtype)
        optimizer.apply(number)
    return weight.detach().float()
