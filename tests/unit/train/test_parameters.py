"""Groups, freezing, and the norm that openpi logs."""

from __future__ import annotations

import math

import pytest
import torch

from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05
from pi05.train.parameters import FROZEN, GROUPS, count_groups, freeze, group_of, kernel_norm


@pytest.fixture(scope="module")
def full_size() -> Pi05:
    with torch.device("meta"):
        return Pi05(ModelConfig())


def test_every_parameter_of_the_full_network_has_a_group(full_size: Pi05) -> None:
    freeze(full_size, "full")
    counts = count_groups(full_size)
    assert sum(count.trainable for count in counts.values()) == 3_353_433_872
    assert all(count.trainable > 0 and count.frozen == 0 for count in counts.values())


@pytest.mark.parametrize("method", FROZEN)
def test_methods_freeze_whole_groups(full_size: Pi05, method: str) -> None:
    trainable = freeze(full_size, method)
    assert {group_of(name) for name in trainable} == set(GROUPS) - set(FROZEN[method])
    for group, count in count_groups(full_size).items():
        assert (count.trainable == 0) == (group in FROZEN[method])
        assert (count.frozen > 0) == (group in FROZEN[method])


def test_the_projector_behind_a_frozen_vision_tower_trains() -> None:
    """As with LeRobot's freeze_vision_encoder, which does not touch the multi-modal projector."""
    assert group_of("vision.head.weight") == "vision head"
    assert group_of("vision.blocks.3.mlp.up.bias") == "vision tower"
    assert "vision head" not in FROZEN["frozen-vision"]


def test_strangers_are_refused() -> None:
    with pytest.raises(ValueError, match="belongs to no group"):
        group_of("lora.weight")


def test_kernel_norm_leaves_out_what_openpi_leaves_out() -> None:
    values = {
        "a.weight": torch.tensor([[3.0]]),
        "b.weight": torch.tensor([[4.0]]),
        "a.bias": torch.ones(5),
        "embedding.weight": torch.ones(4, 4),
        "vision.position_embedding": torch.ones(4, 4),
    }
    assert math.isclose(float(kernel_norm(values)), 5.0)
