"""How much memory is free for further environments on this machine, or in this container."""

from __future__ import annotations

import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
SPARE = 1.1
"""Environments grow a little after their first episode."""


def free_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Return the bytes that new processes may take, by the kernel and by the container's limit; None: not told."""
    found = []
    try:
        available = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
        if available is not None:
            found.append(int(available[1]) * 1024)
    except OSError:
        pass  # not Linux: nothing is known
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        if limit != "max":
            used = int((cgroup / "memory.current").read_text())
            cache = re.search(r"^inactive_file (\d+)", (cgroup / "memory.stat").read_text(), re.MULTILINE)
            found.append(int(limit) - used + (int(cache[1]) if cache else 0))
    except OSError:
        pass  # no container, or one of another kind
    return max(0, min(found)) if found else None


def how_many_more(each_bytes: int, free_bytes: int | None, wanted: int) -> int:
    """Return how many of the wanted further environments fit."""
    if free_bytes is None:
        return wanted
    return min(wanted, int(free_bytes / (each_bytes * SPARE)))
