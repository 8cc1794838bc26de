"""What processes tell each other, and what the user reads when they differ; without starting any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from pi05.errors import ConfigError, TrainingError
from pi05.train.config import TrainConfig
from pi05.train.parallel.ranks import OtherRankFailed, Ranks, await_keys, note_failure, prove_connected
from pi05.train.parallel.split import choose


def test_one_process_needs_nobody() -> None:
    ranks = Ranks()
    assert (ranks.first, ranks.several, ranks.nodes) == (True, False, 1)
    value = torch.tensor(3.0)
    assert ranks.sum(value) is value
    assert (ranks.any(True), ranks.any(False), ranks.maxima([1.5]), ranks.gather("x")) == (True, False, [1.5], ["x"])
    assert ranks.in_turns(lambda: 7) == 7


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


@pytest.mark.process
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


TWO = Ranks(rank=0, world_size=2, local_world_size=2)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"gradient_release": True}, "--gradient_release works on one GPU only"),
        ({"parallel": "fsdp", "optimizer_state": "8bit"}, "--optimizer_state=8bit cannot be combined"),
        ({"parallel": "hsdp", "precision": "bf16-sr"}, "--precision=bf16-sr cannot be combined"),
        ({"parallel": "fsdp", "optimizer_offload": True}, "--optimizer_offload cannot be combined"),
    ],
)
def test_what_several_gpus_cannot_do_is_refused_with_the_reason(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        choose(TrainConfig(**settings), TWO, 1, 1)


def test_auto_is_ddp_on_several_and_nothing_on_one() -> None:
    assert choose(TrainConfig(), TWO, 10, 10) == "ddp"
    assert choose(TrainConfig(optimizer_state="8bit"), TWO, 10, 10) == "ddp"
    assert choose(TrainConfig(), Ranks(), 10, 10) == "none"


@pytest.mark.parametrize(("gibibytes", "machines", "kind"), [(10, 1, "ddp"), (4, 1, "fsdp"), (4, 2, "hsdp")])
def test_auto_on_gpus_goes_by_their_memory(
    gibibytes: int, machines: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of a billion trained parameters take 4 GB with gradients and moments."""

    class Properties:
        total_memory = gibibytes * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    gpus = Ranks(rank=0, world_size=4, local_world_size=4 // machines, device=torch.device("cuda", 0))
    assert choose(TrainConfig(), gpus, 250_000_000, 250_000_000) == kind
    assert choose(TrainConfig(precision="bf16-sr"), gpus, 250_000_000, 250_000_000) == "ddp", "it cannot be split"
    assert choose(TrainConfig(), gpus, 250_000_000, 1_000_000) == "ddp", "what is frozen needs less"


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


def test_unequal_machines_cannot_split_inside_each() -> None:
    with pytest.raises(ConfigError, match="same number of GPUs on every machine"):
        choose(TrainConfig(parallel="hsdp"), Ranks(world_size=3, local_world_size=2), 1, 1)
