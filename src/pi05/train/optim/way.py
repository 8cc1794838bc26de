"""Which way the low-memory update takes: the decision of a run before its first step, and of the planner.

A run tries what it would like to use and asks again where that is refused; the planner assumes that nothing is wrong
and refuses only what is not installed. Leaves out the trials (`kernel_check.py`, `compiled_check.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Way = Literal["plain", "compiled", "kernel"]
"""Operation by operation, as code that torch.compile makes of it, or by kernels written for it."""


@dataclass(frozen=True, kw_only=True)
class ChosenWay:
    """The way, and what stands against the faster ones: None where nothing does, or where nobody asked."""

    way: Way
    why_no_kernel: str | None = None
    why_not_compiled: str | None = None


def choose_way(on_gpu: bool, refuses: Callable[[Way], str | None]) -> ChosenWay:
    """Return the fastest way that `refuses` gives no reason against; it is asked about the fastest first."""
    if not on_gpu:
        return ChosenWay(way="plain")
    against_kernel = refuses("kernel")
    if against_kernel is None:
        return ChosenWay(way="kernel")
    against_compiling = refuses("compiled")
    way: Way = "compiled" if against_compiling is None else "plain"
    return ChosenWay(way=way, why_no_kernel=against_kernel, why_not_compiled=against_compiling)
