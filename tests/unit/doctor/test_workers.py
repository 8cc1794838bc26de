"""Workers that are alike, that differ, that are absent, and that do not meet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch.distributed as dist

from pi05.doctor import workers
from pi05.doctor.examine import Examination
from pi05.doctor.workers import Report, differences, exchange, launched, meet, run_variables, together
from pi05.finding import Finding, error, exit_code, note, ok
from pi05.finding_report import render_finding

FINE = ok("torch.ok", "2.13.0+cu130, CUDA 13.0: a kernel ran on each GPU")
BAD = error("driver.old", "the driver is 550", "fails", "update the driver")


def report(rank: int, host: str, *findings: Finding, **compared: str) -> Report:
    return Report(rank=rank, host=host, findings=findings, compared=compared)


def test_workers_that_are_alike_say_each_thing_once() -> None:
    reports = [report(0, "one", FINE, torch="2.13"), report(1, "one"), report(2, "two", FINE, torch="2.13")]
    found = together(reports, 3)
    assert [f.text for f in found] == [FINE.text, "3 workers on 2 machines are alike"]
    assert exit_code(found) == 0


def test_what_one_machine_has_names_it() -> None:
    found = together([report(0, "one", FINE), report(1, "two", FINE, BAD)], 2)
    assert [f.text for f in found][:2] == [FINE.text, "the driver is 550 [two]"]
    assert exit_code(found) == 1


def test_differences_are_named_with_their_ranks() -> None:
    reports = [
        report(0, "one", FINE, torch="2.13.0+cu130", NCCL_P2P_DISABLE="1"),
        report(1, "one", NCCL_P2P_DISABLE="1"),
        report(2, "two", FINE, torch="2.11.0+cu128"),
        report(3, "two"),
    ]
    assert [render_finding(f, 200) for f in differences(reports, 6)] == [
        "error    workers    no word from rank 4-5\n"
        "                    a run on these machines waits for it, and ends\n"
        "                    to do: look at the output of that rank, and whether its machine reaches the others",
        "warning  workers    torch: 2.13.0+cu130 on one (rank 0); 2.11.0+cu128 on two (rank 2)\n"
        "                    a run over several machines is refused, hangs, or trains something else on one of them\n"
        "                    to do: make it the same on every machine",
        "warning  workers    NCCL_P2P_DISABLE: 1 on one (rank 0-1); not set on two (rank 2-3)\n"
        "                    a run over several machines is refused, hangs, or trains something else on one of them\n"
        "                    to do: make it the same on every machine",
    ]


def test_only_variables_that_change_a_run_are_compared() -> None:
    environment = {"NCCL_DEBUG": "INFO", "CUDA_VISIBLE_DEVICES": "1", "HOME": "/root", "HF_ENDPOINT": "x"}
    assert run_variables(environment) == {"HF_ENDPOINT": "x", "NCCL_DEBUG": "INFO"}


def test_the_reports_travel_through_torchs_own_store() -> None:
    store = dist.HashStore()
    assert exchange(store, report(1, "two", note("gpu.none", "no GPU"), torch="1"), 2) == []
    first = report(0, "one", FINE, BAD, torch="1")
    assert exchange(store, first, 2) == [first, report(1, "two", note("gpu.none", "no GPU"), torch="1")]


def test_rank_0_does_not_wait_for_ever() -> None:
    ticks = iter(range(0, 1000, 60))
    own = report(0, "one")
    assert exchange(dist.HashStore(), own, 2, sleep=lambda _: None, clock=lambda: float(next(ticks))) == [own]


def test_torchrun_is_known_by_its_variables() -> None:
    environment = dict.fromkeys(("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"), "1")
    assert launched(environment)
    assert not launched({**environment, "RANK": ""})


def test_meeting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workers, "measure", lambda *_: None)
    store = dist.HashStore()
    wanted = Examination(output=tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert meet(wanted, lambda: (store, 1, 2)) == (None, {})
    findings, _ = meet(wanted, lambda: (store, 0, 2))
    assert [f.name for f in findings or ()] == ["workers.ok"]


def test_a_worker_that_cannot_meet_the_others_tells_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def join() -> tuple[dist.Store, int, int]:
        raise ImportError("libnccl.so.2: cannot open shared object file\nmore")

    monkeypatch.setenv("LOCAL_RANK", "1")
    findings, _ = meet(Examination(output=tmp_path), join)
    assert [render_finding(f, 120) for f in findings or ()] == [
        "error    workers    this worker cannot meet the others: libnccl.so.2: cannot open shared object file\n"
        "                    a run over several processes ends at its start\n"
        "                    to do: see to the other findings first"
    ]


def test_no_finding_about_workers_is_untested() -> None:
    source = Path(workers.__file__).read_text()
    names = set(re.findall(r'"(workers\.\w+)"', source))
    assert names == {"workers.ok", "workers.absent", "workers.differ", "workers.alone"}
