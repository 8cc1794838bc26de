"""Limits of the operating system: shared memory, open files, room and speed of the folders that a run writes to."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pi05.doctor.facts import Disk, System

SAMPLE = 64 * 2**20
"""Bytes written to measure a disk; gone at once."""


def probe_system(
    output: Path,
    *,
    measure_speed: bool = True,
    environment: Mapping[str, str] = os.environ,
    shared_memory: Path = Path("/dev/shm"),
    open_files: Callable[[], tuple[int, int]] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    clock: Callable[[], float] = time.perf_counter,
) -> System:
    """Measure shared memory, the limit of open files, and the disks of output, caches and temporary files."""
    home = Path(environment.get("HOME", "/"))
    caches = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    frames = Path(environment.get("PI05_CACHE") or home / ".cache" / "pi05" / "frames")
    downloads = Path(environment.get("HF_HOME") or caches / "huggingface")
    timed = clock if measure_speed else None
    disks = [
        probe_disk("output", output, timed),
        probe_disk("frame cache", frames, timed),
        probe_disk("downloads", downloads, None),
        probe_disk("temporary", Path(tempfile.gettempdir()), None),
    ]
    return System(
        shared_memory=shutil.disk_usage(shared_memory).total if shared_memory.is_dir() else None,
        open_files=open_files(),
        disks=tuple(disks),
    )


def probe_disk(role: str, path: Path, clock: Callable[[], float] | None) -> Disk:
    """Measure a folder, or the one that it would be made in; with a clock also how fast bytes reach the disk."""
    absolute = path.expanduser().absolute()
    try:
        place = next(place for place in (absolute, *absolute.parents) if place.exists())
        free = shutil.disk_usage(place).free
        with tempfile.TemporaryFile(dir=place) as file:
            if clock is None or free < 2 * SAMPLE:
                return Disk(role=role, path=str(path), free=free)
            block = os.urandom(2**20)  # what a file system with compression cannot make small
            started = clock()
            for _ in range(SAMPLE // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            return Disk(role=role, path=str(path), free=free, speed=SAMPLE / max(clock() - started, 1e-9))
    except OSError as refusal:
        return Disk(role=role, path=str(path), fault=refusal.strerror or str(refusal))
