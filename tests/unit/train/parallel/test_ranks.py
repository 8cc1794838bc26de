"""What processes tell each other, and what the user reads when they differ; without starting any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from pi05.errors import TrainingError
from pi05.train.parallel.fate import note_failure
from pi05.train.parallel.kind import World
from pi05.train.parallel.ranks import OtherRankFailed, Ranks, await_keys, prove_connected


def test_one_process_needs_nobody() -> None:
    ranks = Ranks()
    assert (ranks.first, ranks.several, ranks.world) == (True, False, World())
    value = torch.tensor(3.0)
    assert ranks.sum(value) is value
    assert (ranks.any(True), ranks.any(False), ranks.maxima([1.5]), ranks.gather("x")) == (True, False, [1.5], ["x"])
    assert ranks.in_turns(lambda: 7) == ranks.one_by_one(lambda: 7) == 7


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
inside = []
def alone():
    inside.append(store.add("inside", 1))
    time.sleep(0.3)
    store.add("inside", -1)
    return inside[0]
found = [
    ranks.sum(torch.tensor(rank + 1.0)).item(), ranks.any(rank == 1), ranks.any(False),
    ranks.maxima([rank, -rank, 5.0]), ranks.gather(f"r{rank}"), ranks.from_first(rank),
    ranks.in_turns(slowly_first), ranks.one_by_one(alone),
]
print(found)
dist.destroy_process_group()
"""


@pytest.mark.process
def test_what_two_processes_tell_each_other(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PAIR]
    started = [
        subprocess.Popen([*words, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120)[0].strip() for process in started]
    same = "[3.0, True, False, [1.0, 0.0, 5.0], ['r0', 'r1'], 0, "
    assert told == [f"{same}1, 1]", f"{same}2, 1]"], "rank 0 takes its turn before rank 1; never both at once"


DDP = """
import copy, sys, torch, torch.distributed as dist
sys.path.insert(0, sys.argv[3])
from small_network import SETTINGS, make_batch, make_model, make_state
from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.split import Parallel, replicate
from pi05.train.parameters import freeze
from pi05.train.step import train_step
rank = int(sys.argv[1])
store = dist.FileStore(sys.argv[2], 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
ranks = Ranks(rank=rank, world_size=2, local_rank=rank, local_world_size=2, store=store)
for part in ("full", "frozen-vision", "expert"):
    model = make_model()
    state = make_state(model, freeze(model, part))
    state.parallel = Parallel(ranks=ranks, kind="ddp", ddp=replicate(model))
    assert not state.parallel.ddp.find_unused_parameters
    for step in range(3):
        result = train_step(state, [make_batch(2, seed=rank + step)], SETTINGS)
    weights = torch.cat([value.detach().flatten() for value in model.parameters()])
    assert len(set(ranks.gather(weights.double().sum().item()))) == 1, part
    print(part, result.loss.item() == ranks.from_first(result.loss.item()))
dist.destroy_process_group()
"""


@pytest.mark.process
def test_whole_networks_are_trained_without_a_search_for_what_has_no_gradient(tmp_path: Path) -> None:
    """DDP ends a run in its second step where a parameter got no gradient in the first."""
    tests = str(Path(__file__).parents[3])
    words = [sys.executable, "-c", DDP]
    started = [
        subprocess.Popen(
            [*words, str(rank), str(tmp_path / "store"), tests],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120) for process in started]
    assert [out for out, _ in told] == ["full True\nfrozen-vision True\nexpert True\n"] * 2, told


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
