"""Arithmetic of predicted memory and speed, from one made-up step; the step itself is `test_step_on_shapes.py`'s."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pi05.model import config as model_config
from pi05.train.config import TrainConfig
from pi05.train.parallel.kind import World
from pi05.train.plan.flops import flops_per_sample
from pi05.train.plan.gpus import GIB, GPUS
from pi05.train.plan.memory import (
    COLLECTIVES,
    CUBLAS_WORKSPACE,
    CUDA_CONTEXT,
    FRAGMENTATION,
    GATHERED,
    MemoryPrediction,
    predict,
)
from pi05.train.plan.speed import (
    FLOAT32_SHARE,
    HOST_LINK,
    NVLINK_EXCHANGE,
    PCIE_EXCHANGE,
    UTILISATION,
    Speed,
    estimate_speed,
)
from pi05.train.plan.step_on_shapes import Shapes, StepMemory
from pi05.train.policy_config import PolicyConfig

SIZES = model_config.tiny()
SHAPES = Shapes(batch=8, cameras=2, prompt_tokens=16)
PARTS = {"weights": 1600, "gradients": 800, "optimizer": 2401, "average": 803, "activations": 5000, "workspace": 70}
PARTS = {name: size * 2**20 for name, size in PARTS.items()}
STEP = StepMemory(
    at_peak=PARTS,
    host=0,
    to_host=0,
    largest_unit=50 * 2**20,
    trained=200 * 2**20,
    parameters=400 * 2**20,
    moved=3 * 10**9,
    gathered_bytes=0,
    gradient_bytes=0,
)
H100 = GPUS["h100"]
WAYS: dict[str, tuple[int, int]] = {"ddp": (4, 1), "fsdp": (16, 16), "hsdp": (16, 8)}
"""GPUs in all, and over how many of them everything is split."""


def predicted(parallel: Any = "auto", gpus: int = 1, step: StepMemory = STEP) -> MemoryPrediction:
    return predict(TrainConfig(parallel=parallel), SIZES, SHAPES, world=World.planned(gpus), step=step)


def test_one_gpu_has_the_parts_of_the_step_and_the_libraries_own() -> None:
    memory = predicted()
    assert memory.parts == {**PARTS, "workspace": PARTS["workspace"] + CUBLAS_WORKSPACE}
    assert memory.peak == sum(PARTS.values()) + CUBLAS_WORKSPACE
    assert memory.needed_beside_cuda == round(memory.peak * (1 + FRAGMENTATION))
    assert memory.needed - memory.needed_beside_cuda == CUDA_CONTEXT
    assert 0.3 * GIB < CUDA_CONTEXT < GIB


@pytest.mark.parametrize("kind", list(WAYS))
def test_several_gpus_divide_what_is_held_and_nothing_else(kind: str) -> None:
    gpus, over = WAYS[kind]
    memory = predicted(kind, gpus)
    assert memory.kind == kind
    for name in ("weights", "gradients", "optimizer", "average"):
        assert memory.parts[name] == -(-PARTS[name] // over), name
    assert memory.activations == PARTS["activations"]
    gathered = 0 if kind == "ddp" else GATHERED * STEP.largest_unit
    assert memory.workspace == PARTS["workspace"] + CUBLAS_WORKSPACE + COLLECTIVES + gathered


def speed(step: StepMemory = STEP, gpus: int = 1, parallel: Any = "auto", **settings: Any) -> Speed:
    config = TrainConfig(parallel=parallel, **settings)
    memory = predict(config, SIZES, SHAPES, world=World.planned(gpus), step=step)
    found = estimate_speed(config, SIZES, SHAPES, memory, H100, World.planned(gpus))
    assert found is not None
    return found


def test_time_is_arithmetic_over_the_peak_and_traffic_over_the_bandwidth() -> None:
    work = flops_per_sample(SIZES, cameras=2, prompt_tokens=16, part="full")
    arithmetic = 8 * work / (UTILISATION * 989e12)
    update = 3e9 / 3350e9
    found = speed(batch_size=8)
    assert found.step_seconds == pytest.approx(arithmetic + update)
    assert found.steps_per_hour == pytest.approx(3600 / found.step_seconds)
    assert found.samples_per_second == pytest.approx(8 / found.step_seconds)
    still = replace(STEP, moved=0)
    assert speed(still, batch_size=8, gradient_accumulation_steps=3).step_seconds == pytest.approx(3 * arithmetic)
    assert speed(still, batch_size=8, precision="float32").step_seconds == pytest.approx(arithmetic / FLOAT32_SHARE)
    away = replace(STEP, to_host=5 * 10**9)
    assert speed(away, batch_size=8).step_seconds == pytest.approx(arithmetic + update + 10e9 / HOST_LINK), (
        "there and back"
    )


def test_several_gpus_share_the_update_only_where_the_network_is_split() -> None:
    one = speed(batch_size=8)
    copies, split = (speed(gpus=4, parallel=kind, batch_size=8) for kind in ("ddp", "fsdp"))
    assert copies.step_seconds == pytest.approx(one.step_seconds)
    assert copies.samples_per_second == pytest.approx(4 * one.samples_per_second)
    assert one.step_seconds - split.step_seconds == pytest.approx(3e9 / 3350e9 * 3 / 4)


@pytest.mark.parametrize(
    ("kind", "gpus", "passes", "sent"),
    [
        ("ddp", 4, 1, 2 * 7e9 * 3 / 4),
        ("ddp", 4, 3, 2 * 7e9 * 3 / 4),
        ("fsdp", 4, 1, (13e9 + 7e9) * 3 / 4),
        ("fsdp", 4, 3, 3 * (13e9 + 7e9) * 3 / 4),
        ("hsdp", 16, 1, (13e9 + 7e9) * 7 / 8),
    ],
)
def test_the_exchange_between_gpus_counts_where_it_is_longer(kind: str, gpus: int, passes: int, sent: float) -> None:
    step = replace(STEP, moved=0, gathered_bytes=13 * 10**9, gradient_bytes=7 * 10**9)
    config, world = TrainConfig(parallel=kind, gradient_accumulation_steps=passes), World.planned(gpus)  # type: ignore[arg-type]
    memory = predict(config, SIZES, SHAPES, world=world, step=step)
    for gpu, rate in ((H100, NVLINK_EXCHANGE), (GPUS["rtx4090"], PCIE_EXCHANGE)):
        found = estimate_speed(config, SIZES, SHAPES, memory, gpu, world)
        assert found is not None
        assert found.exchanged == pytest.approx(sent)
        assert found.step_seconds == found.exchange_seconds == pytest.approx(sent / rate), "the tiny network is faster"


def test_recomputation_costs_time_by_its_share_and_flow_draws_too() -> None:
    still = replace(STEP, moved=0)
    times = [
        speed(still, activation_checkpointing=degree).step_seconds for degree in ("none", "selective", "0.5", "full")
    ]
    assert times[0] == times[1] < times[2] < times[3] < 4 / 3 * times[0]
    assert speed(still, flow_samples=2).step_seconds > times[0]
    alone = PolicyConfig(train_expert_only=True)
    computed, cached = (
        speed(still, policy=alone, augment=False, cache_prefix=cached).step_seconds for cached in (False, True)
    )
    prefix = flops_per_sample(SIZES, cameras=2, prompt_tokens=16, part="expert") - flops_per_sample(
        SIZES, cameras=2, prompt_tokens=16, part="expert", cached_prefix=True
    )
    assert computed - cached == pytest.approx(SHAPES.batch * prefix / (UTILISATION * H100.bf16_tflops * 1e12))
    lora, expert = (PolicyConfig(use_peft=True, train_expert_only=only) for only in (False, True))
    assert times[0] > speed(still, policy=lora).step_seconds > speed(still, policy=expert).step_seconds
