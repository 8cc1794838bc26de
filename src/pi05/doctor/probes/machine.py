"""The machine, as far as a remedy has to know it."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pi05.doctor.facts import Machine
from pi05.doctor.probes.modules import has_module
from pi05.doctor.torch_builds import INDEX


def probe_machine(
    *,
    environment: Mapping[str, str] = os.environ,
    root: Path = Path("/"),
    has_module: Callable[[str], bool] = has_module,
) -> Machine:
    """Look at interpreter, distribution and container; `root` is where the file system begins."""
    return Machine(
        host=socket.gethostname(),
        python=_shortest(sys.executable),
        installer="pip" if has_module("pip") else "uv",
        architecture=platform.machine(),
        distribution=_distribution(root / "etc" / "os-release"),
        container=any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")),
        torch_index=environment.get("PI05_TORCH_INDEX", INDEX).rstrip("/"),
    )


def _shortest(executable: str) -> str:
    """Return the interpreter as one types it: relative where it lies below the working directory."""
    try:
        below = os.path.relpath(executable)
    except (ValueError, OSError):
        return executable
    return executable if below.startswith("..") else below


def _distribution(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "other"
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return values.get("ID", "other").strip('"')
