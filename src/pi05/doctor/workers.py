"""Under torchrun: one examination per machine, told by rank 0, with what differs between the workers.

The workers meet at torchrun's own store, without NCCL or gloo: these may be what is broken. Variables are compared over
all processes, the rest over machines.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable

from pi05.doctor.examine import Examination, compared, judge, measure
from pi05.finding import Finding, error, ok, warning

MEETING = timedelta(minutes=3)
"""How long rank 0 waits: as long as the slowest probe may take, and more."""
VARIABLES = ("NCCL_", "CUDA_", "TORCH_", "HF_ENDPOINT", "HF_HUB_OFFLINE", "MUJOCO_GL", "PI05_", "OMP_NUM_THREADS")
"""Beginnings of variables that change a run."""
OWN = ("CUDA_VISIBLE_DEVICES", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCHELASTIC")
"""Beginnings of those that may differ."""


Examined = tuple[list[Finding] | None, dict[str, str]]
"""What is to be told here (None: rank 0 tells it), and what was compared."""


@runtime_checkable
class Store(Protocol):
    """As much of torch's store as is needed."""

    def set(self, key: str, value: str) -> None:
        """Leave a value."""

    def get(self, key: str) -> bytes:
        """Return a value that is there."""

    def check(self, keys: list[str]) -> bool:
        """Tell whether all are there."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one worker tells the others."""

    rank: int
    host: str
    findings: tuple[Finding, ...]
    """Empty for those that share a machine with an earlier one."""
    compared: Mapping[str, str]

    def to_json(self) -> str:
        """Return the report as text."""
        return json.dumps(
            {
                "rank": self.rank,
                "host": self.host,
                "findings": [finding.to_dict() for finding in self.findings],
                "compared": dict(self.compared),
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Build from `to_json`."""
        values = json.loads(text)
        values["findings"] = tuple(Finding(**finding) for finding in values["findings"])
        return cls(**values)


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether torchrun started this process, without importing torch."""
    return all(environment.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def join_store() -> tuple[Store, int, int]:
    """Return torchrun's store, this process's rank and the number of processes. Raises what torch raises."""
    import torch.distributed as dist

    store, rank, world_size = next(dist.rendezvous("env://", timeout=MEETING))
    return store, rank, world_size


def exchange(
    store: Store,
    report: Report,
    world_size: int,
    *,
    patience: timedelta = MEETING,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[Report]:
    """Leave a report; on rank 0 return those of all workers that came in time, on the others none."""
    keys = [f"pi05/doctor/{rank}" for rank in range(world_size)]
    store.set(keys[report.rank], report.to_json())
    if report.rank != 0:
        return []
    started = clock()
    while not store.check(keys) and clock() - started < patience.total_seconds():
        sleep(0.2)
    return [Report.from_json(store.get(key)) for key in keys if store.check([key])]


def run_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that have to be the same in every process."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(VARIABLES) and not name.startswith(OWN)
    }


def together(reports: Sequence[Report], world_size: int) -> list[Finding]:
    """Return the findings of all machines, each once, then what differs between the workers."""
    machines = [report for report in reports if report.findings]
    hosts_of: dict[Finding, list[str]] = {}
    for report in machines:
        for finding in report.findings:
            hosts_of.setdefault(finding, []).append(report.host)
    everywhere = len(machines)
    told = []
    for finding, hosts in hosts_of.items():
        where = "" if len(hosts) == everywhere else f" [{', '.join(hosts)}]"
        told.append(Finding(finding.name, finding.status, finding.text + where, finding.effect, finding.remedy))
    return [*told, *differences(reports, world_size)]


def differences(reports: Sequence[Report], world_size: int) -> list[Finding]:
    """Return what is not the same on every worker, with the ranks on each side."""
    found = []
    absent = sorted(set(range(world_size)) - {report.rank for report in reports})
    if absent:
        found.append(
            error(
                "workers.absent",
                f"no word from rank {_ranks(absent)}",
                "on these machines waits for it, and ends",
                "look at the output of that rank, and whether its machine reaches the others",
            )
        )
    names = dict.fromkeys(name for report in reports for name in report.compared)
    for name in names:
        sides: dict[str, list[Report]] = {}
        for report in reports:
            # a worker that shares a machine says nothing of it; a variable that is not set is a difference
            if name in report.compared or name.startswith(VARIABLES):
                sides.setdefault(report.compared.get(name, "not set"), []).append(report)
        if len(sides) > 1:
            told = "; ".join(f"{value} on {_where(members)}" for value, members in sides.items())
            found.append(
                warning(
                    "workers.differ",
                    f"{name}: {told}",
                    "over several machines is refused, hangs, or trains something else on one of them",
                    "make it the same on every machine",
                )
            )
    if not found:
        found.append(ok("workers.ok", f"{world_size} workers on {len({r.host for r in reports})} machines are alike"))
    return found


def _where(members: Sequence[Report]) -> str:
    hosts = dict.fromkeys(report.host for report in members)
    return f"{', '.join(hosts)} (rank {_ranks(sorted(report.rank for report in members))})"


def _ranks(ranks: Sequence[int]) -> str:
    """Write 0, 1, 2, 5 as `0-2, 5`."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and parts[-1][-1] == rank - 1:
            parts[-1].append(rank)
        else:
            parts.append([rank])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def meet(wanted: Examination, join: Callable[[], tuple[Store, int, int]] = join_store) -> Examined:
    """Examine as one of torchrun's workers. Only rank 0 gets findings: those of all machines.

    The first process of each machine measures; the others bring their variables. A worker that cannot reach the others
    tells its own.
    """
    first_here = os.environ.get("LOCAL_RANK", "0") == "0"
    facts = measure(wanted, lambda _: None) if first_here else None
    findings = tuple(judge(facts)) if facts is not None else ()
    versions = compared(facts) if facts is not None else {}
    try:
        store, rank, world_size = join()
        report = Report(
            rank=rank, host=socket.gethostname(), findings=findings, compared={**versions, **run_variables()}
        )
        reports = exchange(store, report, world_size)
    except Exception as fault:  # torch broken here, or nobody at the meeting point
        text = (
            f"this worker cannot meet the others: {str(fault).splitlines()[0] if str(fault) else type(fault).__name__}"
        )
        alone = error(
            "workers.alone", text, "over several processes ends at its start", "see to the other findings first"
        )
        return [*findings, alone], versions
    return (together(reports, world_size) if rank == 0 else None), versions
