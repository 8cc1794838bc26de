"""Is all here that code for a GPU is compiled by when a run starts? Runs, plans and `pi05 doctor` ask. No torch."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path


def why_no_triton() -> str | None:
    """Return None where Triton is here with what it compiles by, which kernels and compiled code take on a GPU.

    Else the reason. It looks where Triton does: $CC alone if that is set, else gcc or clang, and Python's own headers.
    """
    if importlib.util.find_spec("triton") is None:
        return "the package triton is missing"
    named = os.environ.get("CC")
    if not any(shutil.which(name) for name in (("gcc", "clang") if named is None else (named,))):
        return "a C compiler is missing " + ("(gcc or clang)" if named is None else f"(CC is {named!r})")
    return why_no_headers()


def why_no_headers() -> str | None:
    """Return None where Python's own headers are, which compiled code is built with for a CPU, too; else the reason."""
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # Debian's own name has no headers
    if not (Path(sysconfig.get_path("include", scheme)) / "Python.h").is_file():
        return "Python.h is missing (Debian: python3-dev)"
    return None
