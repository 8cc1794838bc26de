"""What cannot go together: one list, each entry with its reason, asked by configuration, run and planner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pi05.errors import ConfigError
from pi05.train.config import TrainConfig
from pi05.train.exclusions import ANYWHERE, EXCLUSIONS, Place, find_conflict, require_compatible
from pi05.train.lora_config import PeftConfig
from pi05.train.parallel.kind import World
from pi05.train.policy_config import PolicyConfig

LORA = PolicyConfig(use_peft=True)
EXPERT = PolicyConfig(train_expert_only=True)
TWO = World.planned(2)
CPU, FSDP = Place(on_gpu=False), Place(world=TWO, kind="fsdp")

BETWEEN_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "scratch_with_base": ({"from_scratch": True, "policy": PolicyConfig(path="base")}, "drop --policy.path=base"),
    "scratch_with_adapters": ({"from_scratch": True, "policy": LORA}, "a low-rank change of random weights"),
    "adapters_with_rounded_weights": ({"policy": LORA, "precision": "bf16-sr"}, "adapters need float32"),
    "dora_with_quantised_base": (
        {"policy": LORA, "peft": PeftConfig(use_dora=True, quantize="int8")},
        "DoRA measures the rows",
    ),
    "release_with_accumulation": (
        {"gradient_release": True, "gradient_accumulation_steps": 2},
        "cannot wait for those of the next pass",
    ),
    "offload_without_recomputation": ({"activation_offload": True}, "--activation_checkpointing=full"),
    "cached_prefix_that_is_trained": ({"cache_prefix": True, "augment": False}, "--policy.train_expert_only"),
    "cached_prefix_with_augmentation": ({"cache_prefix": True, "policy": EXPERT}, "--augment=false"),
    "scratch_with_stored_statistics": ({"from_scratch": True, "stats": "checkpoint"}, "set --stats to recompute"),
}
WITH_THE_MACHINE: dict[str, tuple[dict[str, Any], Place, str]] = {
    "optimizer_offload_on_cpu": ({"optimizer_offload": True}, CPU, "--optimizer_state=8bit"),
    "activation_offload_on_cpu": (
        {"activation_offload": True, "activation_checkpointing": "full"},
        CPU,
        "leave --activation_offload out",
    ),
    "release_on_several_gpus": ({"gradient_release": True}, Place(world=TWO, kind="ddp"), "--parallel=fsdp"),
    "quantised_base_in_parts": ({"policy": LORA, "peft": PeftConfig(quantize="nf4")}, FSDP, "--method=lora"),
    "cached_prefix_in_parts": ({"cache_prefix": True, "augment": False, "policy": EXPERT}, FSDP, "--parallel=ddp"),
    "whole_parameters_in_parts": ({"optimizer_state": "4bit"}, FSDP, "leave --optimizer_state out"),
    "hsdp_on_uneven_machines": ({}, Place(world=World(gpus=3, per_machine=2), kind="hsdp"), "--parallel=fsdp"),
}


def test_every_exclusion_is_provoked_here() -> None:
    names = [excluded.__name__ for excluded in EXCLUSIONS]
    assert set(names) == {*BETWEEN_SETTINGS, *WITH_THE_MACHINE}
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", BETWEEN_SETTINGS)
def test_settings_that_exclude_each_other_are_no_configuration(name: str) -> None:
    settings, remedy = BETWEEN_SETTINGS[name]
    with pytest.raises(ConfigError, match="cannot be") as refusal:
        TrainConfig(**settings)
    assert remedy in refusal.value.remedy


@pytest.mark.parametrize("name", WITH_THE_MACHINE)
def test_what_a_machine_excludes_is_refused_there_only(name: str) -> None:
    settings, place, remedy = WITH_THE_MACHINE[name]
    config = TrainConfig(**settings)
    assert find_conflict(config, ANYWHERE) is None
    with pytest.raises(ConfigError) as refusal:
        require_compatible(config, place)
    assert remedy in refusal.value.remedy
    found: Callable[[Any, Place], ConfigError | None] = {each.__name__: each for each in EXCLUSIONS}[name]
    assert found(config, place) is not None


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"optimizer_state": "8bit"}, "--optimizer_state=8bit"),
        ({"precision": "bf16-sr"}, "--precision=bf16-sr"),
        ({"optimizer_offload": True}, "--optimizer_offload"),
        ({"optimizer_state": "8bit", "precision": "bf16-sr"}, "--optimizer_state=8bit"),
    ],
)
def test_the_flag_that_needs_whole_parameters_is_named(settings: dict[str, Any], flag: str) -> None:
    error = find_conflict(TrainConfig(**settings), FSDP)
    assert error is not None
    assert error.problem == f"{flag} cannot be combined with --parallel=fsdp"


def test_what_goes_together_goes_together() -> None:
    for config in (TrainConfig(), TrainConfig(policy=LORA), TrainConfig(precision="bf16-sr", optimizer_state="8bit")):
        require_compatible(config, Place(world=TWO, kind="ddp"))
    require_compatible(TrainConfig(policy=LORA), FSDP)
