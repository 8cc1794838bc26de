"""A frozen weight that moves ends the run before a checkpoint is written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_network import make_model
from torch import nn

from pi05.errors import TrainingError
from pi05.train.parallel.ranks import Ranks
from pi05.train.watchers import frozen
from pi05.train.watchers.frozen import FrozenWatch, checksum, checksums


def half_frozen() -> nn.Module:
    model = make_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("expert."))
    return model


def test_training_what_is_trained_is_no_fault() -> None:
    model = half_frozen()
    watch = FrozenWatch(model, Ranks())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("expert."):
                parameter += 1
    watch.require_unmoved(10)


@pytest.mark.parametrize("change", ["a value", "the last bit", "two values exchanged"])
def test_any_change_of_a_frozen_weight_is_found(change: str) -> None:
    model = half_frozen()
    watch = FrozenWatch(model, Ranks())
    weight = model.get_parameter("embedding.weight")
    with torch.no_grad():
        flat = weight.view(-1)
        if change == "a value":
            flat[17] += 1
        elif change == "the last bit":
            flat.view(torch.int32)[17] ^= 1
        else:
            flat[[3, 9]] = flat[[9, 3]]
    with pytest.raises(TrainingError, match="a frozen weight has moved by step 10; no checkpoint was written") as stop:
        watch.require_unmoved(10)
    assert "embedding.weight" in str(stop.value.found)


class Other(Ranks):
    """Another process has found a moved weight."""

    def gather(self, value: Any) -> list[Any]:
        return [["language.norm.scale"], value]


def test_all_processes_end_together() -> None:
    with pytest.raises(TrainingError, match="frozen weight"):
        FrozenWatch(half_frozen(), Other(rank=1, world_size=2)).require_unmoved(3)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.uint8, torch.float64]
)
def test_every_kind_of_number_has_a_checksum(dtype: torch.dtype) -> None:
    values = torch.arange(100).to(dtype)
    other = values.clone()
    other[50] = 51
    assert int(checksum(values)) == int(checksum(values.clone()))
    assert int(checksum(values)) != int(checksum(other))


def test_chunks_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "CHUNK", 16)
    values = torch.randn(100)
    moved = torch.cat([values[16:32], values[:16], values[32:]])
    assert int(checksum(values)) != int(checksum(moved)), "two whole chunks exchanged"


def test_a_network_without_frozen_weights_has_nothing_to_compare() -> None:
    assert checksums({}) == {}
    FrozenWatch(make_model(), Ranks()).require_unmoved(1)
