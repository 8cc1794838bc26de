"""What the planner may propose: nothing that training refuses on the GPUs of the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pi05.model.config import tiny
from pi05.train.config import TrainConfig
from pi05.train.parallel.kind import World
from pi05.train.plan.gpus import GPUS
from pi05.train.plan.methods import RECIPES, Plan, candidates, make_plan, same_method
from pi05.train.plan.step_on_shapes import Shapes
from pi05.train.policy_config import PolicyConfig

SHAPES = Shapes(batch=8, cameras=2, prompt_tokens=16)
CONFIG = TrainConfig(batch_size=8, policy=PolicyConfig(path="base"))


def plan_on(gpus: int, **settings: Any) -> Plan:
    return make_plan(replace(CONFIG, **settings), tiny(), SHAPES, GPUS["rtx4090"], World.planned(gpus))


def test_one_gpu_may_use_every_method_and_never_splits() -> None:
    found = [(name, config) for name, config, _ in candidates(plan_on(1))]
    assert [name for name, _ in found[: len(RECIPES)]] == [recipe.name for recipe in RECIPES]
    assert {config.parallel for _, config in found} == {"auto"}


@pytest.mark.parametrize("parallel", ["auto", "ddp", "fsdp"])
def test_several_gpus_neither_release_gradients_nor_split_what_cannot_be_split(parallel: str) -> None:
    found = [config for _, config, _ in candidates(plan_on(2, parallel=parallel))]
    assert not any(config.gradient_release for config in found)
    split, copied = ([config for config in found if config.parallel == way] for way in ("fsdp", "ddp"))
    assert {config.method for config in split} == {"full", "lora"}
    for config in split:
        assert (config.precision, config.optimizer_state, config.peft.quantize) == ("mixed", "float32", "none")
    assert {config.optimizer_state for config in copied} == {"float32", "8bit"}
    assert {config.peft.quantize for config in copied} == {"none", "nf4"}
    assert len(split) + len(copied) == len(found)


def test_offloaded_activations_leave_no_degree_to_choose() -> None:
    """They need full recomputation, so that nothing lighter is tried, however much room there is."""
    assert same_method(plan_on(1, activation_checkpointing="full")) is not None
    assert same_method(plan_on(1, activation_checkpointing="full", activation_offload=True)) is None
