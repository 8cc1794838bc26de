"""Shared memory, open files, disks."""

from __future__ import annotations

from collections.abc import Iterator

from pi05.doctor.facts import Disk, Machine, System
from pi05.doctor.remedies import gibibytes
from pi05.finding import Finding, error, ok, warning

SHARED_MEMORY = 2**30
"""What NCCL takes for some GPUs, with room; containers have 64 MiB unless told otherwise."""
OPEN_FILES = 4096
ROOM = {"output": 60, "frame cache": 10, "downloads": 30, "temporary": 1}
"""GiB that the full network wants: a checkpoint with its moments is 40 GB, base and data set 20."""
LEAST = 1
"""GiB without which even the demonstration fails."""
CHECKPOINT = 40e9
"""Bytes of a checkpoint of the full network, all of it trained (docs/training.md)."""
SLOW = 200e6
"""Bytes per second below which a checkpoint takes more than three minutes."""
CHOICES = {
    "output": "pi05 train --output_dir=FOLDER  # on a larger, local disk",
    "frame cache": "export PI05_CACHE=FOLDER  # on a larger, local disk",
    "downloads": "export HF_HOME=FOLDER  # on a larger disk",
    "temporary": "export TMPDIR=FOLDER  # on a larger disk",
}


def judge_system(facts: System, machine: Machine, gpus: int) -> Iterator[Finding]:
    """Yield what is to be said about the system's limits, for a machine with so many GPUs."""
    yield from _shared_memory(facts, machine, gpus)
    soft, hard = facts.open_files
    if soft < OPEN_FILES:
        raised = min(65536, hard)
        yield warning(
            "files.few",
            f"{soft} files may be open at once",
            "on a data set of many videos ends with 'too many open files'",
            f"ulimit -n {raised}"
            if raised >= OPEN_FILES
            else "echo '* - nofile 65536' | sudo tee -a /etc/security/limits.conf  # then log in again",
        )
    else:
        yield ok("files.ok", f"{soft:,} files may be open at once")
    for disk in facts.disks:
        yield _disk(disk, gpus)


def _shared_memory(facts: System, machine: Machine, gpus: int) -> Iterator[Finding]:
    size = facts.shared_memory
    if gpus > 1 and (size is None or size < SHARED_MEMORY):
        yield warning(
            "shm.small",
            f"/dev/shm has {gibibytes(size or 0)}",
            "on several GPUs ends with an NCCL error, or hangs",
            "docker run --shm-size=8g  # start the container again"
            if machine.container
            else "sudo mount -o remount,size=8G /dev/shm",
        )
    elif size is not None:
        yield ok("shm.ok", f"/dev/shm has {gibibytes(size)}")


def _disk(disk: Disk, gpus: int) -> Finding:
    where = f"{disk.role}: {disk.path}"
    choice = CHOICES[disk.role]
    if disk.fault is not None:
        return error(
            "disk.unwritable", f"{where} cannot be written: {disk.fault}", "fails when it writes there", choice
        )
    wanted = (ROOM[disk.role] if gpus else LEAST) * 2**30
    if disk.free < wanted:
        return warning(
            "disk.full",
            f"{where} has {gibibytes(disk.free)} free, wanted are {gibibytes(wanted)}",
            "ends when the disk is full",
            choice,
        )
    if gpus and disk.role == "output" and disk.speed is not None and disk.speed < SLOW:
        return warning(
            "disk.slow",
            f"{where} takes {disk.speed / 1e6:,.0f} MB/s",
            f"waits {CHECKPOINT / disk.speed / 60:.0f} minutes for each checkpoint of the full network",
            choice,
        )
    speed = "" if disk.speed is None else f", takes {disk.speed / 1e6:,.0f} MB/s"
    return ok("disk.ok", f"{where} has {gibibytes(disk.free)} free{speed}")
