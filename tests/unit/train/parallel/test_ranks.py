"""What processes tell each other, and what the user reads when they differ; without starting any."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import pi05
from pi05.errors import ConfigError, DataError, TrainingError
from pi05.train.config import TrainConfig
from pi05.train.parallel.kind import World
from pi05.train.parallel.rank_check import (
    agree_on_settings,
    check_processes,
    describe_process,
    differences,
    hash_source,
    require_same_data_on_all,
    require_shared_folder,
)
from pi05.train.parallel.ranks import OtherRankFailed, Ranks, await_keys, note_failure, prove_connected

SOON = timedelta(seconds=0.3)


def test_one_process_needs_nobody() -> None:
    ranks = Ranks()
    assert (ranks.first, ranks.several, ranks.world) == (True, False, World())
    value = torch.tensor(3.0)
    assert ranks.sum(value) is value
    assert (ranks.any(True), ranks.any(False), ranks.maxima([1.5]), ranks.gather("x")) == (True, False, [1.5], ["x"])
    assert ranks.in_turns(lambda: 7) == 7


def test_a_rank_that_does_not_come_is_named() -> None:
    with pytest.raises(TrainingError, match="no word from rank 1, 2"):
        check_processes(dist.HashStore(), 0, 3, SOON)


def test_the_same_software_passes() -> None:
    store = dist.HashStore()
    others = [threading.Thread(target=check_processes, args=(store, rank, 2)) for rank in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(timeout=30)
        assert not other.is_alive()


def test_differences_name_rank_value_and_what_was_expected() -> None:
    found: list[Any] = [{"torch": "2.13", "av": "14"}, {"torch": "2.13", "av": "14"}, {"torch": "2.7", "av": "14"}]
    assert differences(["rank 0 (a)", "rank 1 (a)", "rank 2 (b)"], found) == "rank 2 (b): torch 2.7 instead of 2.13"
    assert differences(["rank 0 (a)", "rank 1 (a)"], found[:2]) == ""


def test_a_process_is_described_by_its_code_too() -> None:
    found = describe_process()
    assert found["torch"] == torch.__version__
    assert len(found["pi05's source"]) == 16


def test_the_code_of_one_version_may_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pi05, "__file__", str(tmp_path / "__init__.py"))
    found = []
    for text in ("a = 1", "a = 2"):
        (tmp_path / "__init__.py").write_text(text)
        found.append(hash_source.__wrapped__())
    (tmp_path / "__init__.py").rename(tmp_path / "other.py")
    found.append(hash_source.__wrapped__())
    assert len(set(found)) == 3


class Both(Ranks):
    """The first of two processes; the other one gathers what it is told to."""

    other: Any = None

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other(value)]

    def from_first(self, value: Any) -> Any:
        return value


def both(other: Any) -> Both:
    ranks = Both(rank=0, world_size=2, local_world_size=2)
    ranks.other = other
    return ranks


def test_other_flags_on_another_machine_are_refused_by_name() -> None:
    config = TrainConfig(output_dir="mine", seed=1)
    ranks = both(lambda value: {**value, "seed": 2} if isinstance(value, dict) else value)
    with pytest.raises(ConfigError, match="different settings") as refusal:
        agree_on_settings(ranks, config)
    assert "seed 2 instead of 1" in str(refusal.value.found)
    assert agree_on_settings(both(lambda value: value), config) == config


def test_other_data_on_another_machine_are_refused_by_name() -> None:
    ranks = both(lambda value: {**value, "frames": 5} if isinstance(value, dict) else value)
    with pytest.raises(DataError, match="not the same on every machine") as refusal:
        require_same_data_on_all(ranks, {"frames": 6, "statistics": "abc"})
    assert "frames 5 instead of 6" in str(refusal.value.found)
    require_same_data_on_all(both(lambda value: value), {"frames": 6})


def test_a_machine_that_does_not_see_the_runs_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not every machine sees the run's folder") as failure:
        require_shared_folder(both(lambda value: ("far", False)), tmp_path / "run")
    assert failure.value.found == "not seen by rank 1 (far)"
    require_shared_folder(both(lambda value: value), tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


PAIR = """
import sys, time, torch, torch.distributed as dist
from pi05.train.parallel.ranks import Ranks
rank = int(sys.argv[1])
store = dist.FileStore(sys.argv[2], 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
ranks = Ranks(rank=rank, world_size=2, local_rank=rank, local_world_size=2, store=store)
def slowly_first():
    time.sleep(0.5 * ranks.first)
    return store.add("turn", 1)
found = [
    ranks.sum(torch.tensor(rank + 1.0)).item(), ranks.any(rank == 1), ranks.any(False),
    ranks.maxima([rank, -rank, 5.0]), ranks.gather(f"r{rank}"), ranks.from_first(rank),
    ranks.in_turns(slowly_first),
]
print(found)
dist.destroy_process_group()
"""


def test_what_two_processes_tell_each_other(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PAIR]
    started = [
        subprocess.Popen([*words, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120)[0].strip() for process in started]
    same = "[3.0, True, False, [1.0, 0.0, 5.0], ['r0', 'r1'], 0, "
    assert told == [f"{same}1]", f"{same}2]"], "rank 0 takes its turn before rank 1"


def test_waiting_ends_when_another_process_has_failed() -> None:
    store = dist.HashStore()
    note_failure(store, 1, DataErrorStandIn("video broken"))
    note_failure(store, 0, DataErrorStandIn("later"))
    with pytest.raises(OtherRankFailed) as ended:
        await_keys(store, ["never"], None)
    assert "rank 1" in str(ended.value)
    assert "video broken" in str(ended.value)


class DataErrorStandIn(Exception):
    """An error of another process."""


class Deaf(Ranks):
    """A process whose sums lack those of the others."""

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        return value


class Cut(Ranks):
    """A process that reaches nobody."""

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("connection refused\nby somebody")


def test_a_connection_that_does_not_work_is_told() -> None:
    with pytest.raises(TrainingError, match="a sum over all ranks is wrong"):
        prove_connected(Deaf(rank=1, world_size=2))
    with pytest.raises(TrainingError, match=r"rank 1 \(\S+\) cannot reach the others by gloo") as failure:
        prove_connected(Cut(rank=1, world_size=2))
    assert failure.value.found == "connection refused"
