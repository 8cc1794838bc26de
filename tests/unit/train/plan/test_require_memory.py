"""A run that would lock too much of the machine's memory is refused before its base is loaded."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pi05.errors import TrainingError
from pi05.model.config import tiny
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData
from pi05.train.parallel.ranks import Ranks
from pi05.train.plan.gpus import GIB
from pi05.train.plan.require_memory import require_memory


def test_a_run_asks_the_machine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    data = TrainingData.__new__(TrainingData)
    processor: Any = SimpleNamespace(tokenizer=None, prompt_format=None, slots=SimpleNamespace(keys=["scene"]))
    vars(data).update(processor=processor, dataset=None)
    monkeypatch.setattr("pi05.train.plan.require_memory.longest_prompt", lambda *_: 16)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA GeForce RTX 4090")
    config = TrainConfig(batch_size=2, optimizer_offload=True)
    ranks, told = Ranks(device=torch.device("cuda")), list[str]()
    for available, fits in ((GIB, True), (2**20, False), (None, True)):
        monkeypatch.setattr("pi05.train.plan.require_memory.available_memory", lambda available=available: available)
        if fits:
            assert require_memory(config, tiny(), data, ranks, told.append) is config
            continue
        with pytest.raises(TrainingError, match="the machine has too little memory"):
            require_memory(config, tiny(), data, ranks, told.append)
        allowed = replace(config, allow=("memory",))
        assert require_memory(allowed, tiny(), data, ranks, told.append) is allowed
    assert len(told) == 2
