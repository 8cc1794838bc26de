"""Which optimizer a run gets, and that every setting of it arrives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pi05.train.config import TrainConfig
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.optim.build import build_optimizer
from pi05.train.optim.low_memory import LowMemoryOptimizer
from pi05.train.policy_config import PolicyConfig

SCHEDULE = Schedule(peak=1e-3, warmup_steps=2, decay_steps=10, end=1e-4)
POLICY = PolicyConfig(
    optimizer_betas=(0.8, 0.9), optimizer_eps=1e-6, optimizer_weight_decay=0.125, optimizer_grad_clip_norm=0.5
)
SETTINGS = AdamSettings(betas=(0.8, 0.9), eps=1e-6, weight_decay=0.125, clip_norm=0.5)


def build(device: str = "cpu", **settings: Any) -> AdamW | LowMemoryOptimizer:
    parameters = {"w": nn.Parameter(torch.zeros(4))}
    return build_optimizer(TrainConfig(policy=POLICY, seed=9, **settings), parameters, SCHEDULE, torch.device(device))


@pytest.mark.parametrize("settings", [{}, {"precision": "bf16-sr"}])
def test_all_settings_arrive(settings: dict[str, Any]) -> None:
    optimizer = build(**settings)
    assert (optimizer.settings, optimizer.schedule) == (SETTINGS, SCHEDULE)
    assert list(optimizer.parameters) == ["w"]


def test_pytorchs_own_where_nothing_is_saved() -> None:
    optimizer = build()
    assert isinstance(optimizer, AdamW)
    (group,) = optimizer._adam.param_groups
    found = group["betas"], group["eps"], group["weight_decay"], group["fused"]
    assert found == ((0.8, 0.9), 1e-6, 0.125, True)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"precision": "bf16-sr"}, ("float32", False, False)),
        ({"optimizer_state": "8bit"}, ("8bit", False, False)),
        ({"optimizer_state": "4bit", "gradient_release": True}, ("4bit", False, True)),
        ({"gradient_release": True}, ("float32", False, True)),
        ({"optimizer_offload": True}, ("float32", True, False)),
    ],
)
def test_ours_where_memory_is_saved(settings: dict[str, Any], kept: tuple[str, bool, bool]) -> None:
    optimizer = build("cuda", **settings)
    assert isinstance(optimizer, LowMemoryOptimizer)
    assert (optimizer.kind, optimizer.offload, optimizer.release) == kept
    assert optimizer.seed == 9
