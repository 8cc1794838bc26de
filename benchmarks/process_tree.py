"""CPU time of a process and all that it has started, from /proc (Linux). Imports nothing but the standard library, so
that it runs in any environment."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_seconds(root: int | None = None) -> float:
    """Return the user and system time of a process (this one when None) and of its descendants, the ended included."""
    parents, times = dict[int, int](), dict[int, float]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        parents[int(entry.name)] = int(fields[1])
        times[int(entry.name)] = sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    wanted = root or os.getpid()
    return sum(seconds for pid, seconds in times.items() if _descends(pid, wanted, parents))


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        if pid == root:
            return True
        pid = parents[pid]
    return False
