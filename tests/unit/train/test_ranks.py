"""What processes tell each other, and what the user reads when they differ; without starting any."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist

from pi05.errors import ConfigError, TrainingError
from pi05.train.config import TrainConfig
from pi05.train.parallel import choose
from pi05.train.rank_check import check_processes, describe_process, differences
from pi05.train.ranks import OtherRankFailed, Ranks, await_keys, note_failure

SOON = timedelta(seconds=0.3)


def test_one_process_needs_nobody() -> None:
    ranks = Ranks()
    assert (ranks.first, ranks.several, ranks.nodes) == (True, False, 1)
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


def test_unequal_machines_cannot_split_inside_each() -> None:
    with pytest.raises(ConfigError, match="same number of GPUs on every machine"):
        choose(TrainConfig(parallel="hsdp"), Ranks(world_size=3, local_world_size=2), 1, 1)
