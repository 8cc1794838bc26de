"""Which way the low-memory update takes: the decision of a run before its first step, and of the planner.

A run tries what it would like to use and asks again where that is refused; the planner assumes that nothing is wrong
and refuses only what is not installed. Leaves out the trials (`kernel_check.py`, `compiled_check.py`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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


def why_no_triton() -> str | None:
    """Return None where Triton is here with what it compiles by, which kernels and compiled code take on a GPU.

    Else the reason. It looks where Triton does: $CC alone if that is set, else gcc or clang, and Python's own headers.
    """
    if importlib.util.find_spec("triton") is None:
        return "the package triton is missing"
    named = os.environ.get("CC")
    if not any(shutil.which(name) for name in (("gcc", "clang") if named is None else (named,))):
        return "a C compiler is missing " + ("(gcc or clang)" if named is None else f"(CC is {named!r})")
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # Debian's own name has no headers
    if not (Path(sysconfig.get_path("include", scheme)) / "Python.h").is_file():
        return "Python.h is missing (Debian: python3-dev)"
    return None
