"""Groups, freezing, and the norm that openpi logs."""

from __future__ import annotations

import io
import math

import pytest
import torch
from rich.console import Console
from small_network import make_batch, make_model

from pi05.model.config import ModelConfig, tiny
from pi05.model.pi05 import Pi05
from pi05.train.method import Part
from pi05.train.parameters import (
    FROZEN,
    GROUPS,
    count_groups,
    freeze,
    group_of,
    kernel_norm,
    moments_in_use,
    parameter_table,
    parameters_of,
)

UNREAD = 109_056_000
"""Parameters of full size that exist for checkpoints only (docs/model.md)."""


@pytest.fixture(scope="module")
def full_size() -> Pi05:
    with torch.device("meta"):
        return Pi05(ModelConfig())


def test_every_parameter_of_the_full_network_has_a_group(full_size: Pi05) -> None:
    freeze(full_size, "full")
    counts = count_groups(full_size)
    assert sum(count.trainable for count in counts.values()) == 3_353_433_872 - UNREAD
    assert {group: count.frozen for group, count in counts.items() if count.frozen} == {"language model": UNREAD}


@pytest.mark.parametrize("method", FROZEN)
def test_methods_freeze_whole_groups_and_what_nothing_reads(full_size: Pi05, method: Part) -> None:
    trainable = freeze(full_size, method)
    assert {group_of(name) for name in trainable} == set(GROUPS) - set(FROZEN[method])
    for group, count in count_groups(full_size).items():
        assert (count.trainable == 0) == (group in FROZEN[method])
        assert (count.frozen > 0) == (group in (*FROZEN[method], "language model"))
    assert set(parameters_of(full_size, method)) - set(trainable) == {
        name for name in parameters_of(full_size, method) if not full_size.is_read(name)
    }


def test_the_table_counts_what_is_trained() -> None:
    with torch.device("meta"):
        model = Pi05(tiny())
    freeze(model, "full")
    console = Console(width=100, file=io.StringIO())
    console.print(parameter_table(model))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,723,744" in told
    assert "131,328 of the frozen ones are read by nothing" in told


@pytest.mark.parametrize("method", FROZEN)
def test_everything_that_is_trained_gets_a_gradient(method: Part) -> None:
    """DDP may take that for granted."""
    model = make_model()
    trainable = freeze(model, method)
    model.loss(make_batch(2)).mean().backward()
    assert all(value.grad is not None for value in trainable.values())


def test_moments_of_what_nothing_reads_are_left_out(full_size: Pi05) -> None:
    value = torch.zeros(())
    last = "language.layers.17."
    labels = [
        f"{last}mlp.up.weight",
        f"{last}attention.key.weight",
        "language.norm.scale",
        "language.layers.1.mlp.up.weight",
    ]
    found = moments_in_use(full_size, {f"exp_avg.codes/{label}": value for label in labels} | {"previous_norm": value})
    assert set(found) == {f"exp_avg.codes/{labels[1]}", f"exp_avg.codes/{labels[3]}", "previous_norm"}


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
