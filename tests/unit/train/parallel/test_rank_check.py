"""Processes that do not belong together are refused by name: software, flags, data, folder."""

from __future__ import annotations

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
from pi05.train.parallel.rank_check import (
    agree_on_settings,
    check_processes,
    describe_process,
    differences,
    hash_source,
    require_same_data,
    require_shared_folder,
)
from pi05.train.parallel.ranks import Ranks

SOON = timedelta(seconds=0.3)


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
        require_same_data(ranks, {"frames": 6, "statistics": "abc"})
    assert "frames 5 instead of 6" in str(refusal.value.found)
    require_same_data(both(lambda value: value), {"frames": 6})


def test_a_machine_that_does_not_see_the_runs_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not every machine sees the run's folder") as failure:
        require_shared_folder(both(lambda value: ("far", False)), tmp_path / "run")
    assert failure.value.found == "not seen by rank 1 (far)"
    require_shared_folder(both(lambda value: value), tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
