"""One function says how a network lies on the GPUs: for the run, and for the prediction of its memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pi05.model.config import tiny
from pi05.train.config import TrainConfig
from pi05.train.parallel.kind import Kind, World, choose_kind, divided_by, held_bytes
from pi05.train.parallel.placement import agree_on_kind, count_parameters
from pi05.train.parallel.ranks import Ranks
from pi05.train.plan.gpus import GPUS
from pi05.train.plan.memory import predict
from pi05.train.plan.step_on_shapes import Shapes, StepMemory
from pi05.train.policy_config import PolicyConfig

GIB = 2**30
CONFIG = TrainConfig()
PARTS = ("weights", "gradients", "optimizer", "average", "activations", "workspace")


def world(machines: int, per_machine: int) -> World:
    return World(gpus=machines * per_machine, per_machine=per_machine)


@pytest.mark.parametrize(
    ("machines", "per_machine", "held", "kind", "over"),
    [
        (1, 1, 90, "none", 1),
        (1, 8, 20, "ddp", 1),
        (1, 8, 21, "fsdp", 8),
        (2, 4, 20, "ddp", 1),
        (2, 4, 80, "hsdp", 4),
        (2, 4, 81, "fsdp", 8),  # four GPUs together do not hold it easily, eight do
        (2, 8, 160, "hsdp", 8),
        (2, 8, 161, "fsdp", 16),
        (4, 1, 20, "ddp", 1),
        (4, 1, 21, "fsdp", 4),  # alone in its machine, a GPU has nobody to split with there
    ],
)
def test_auto_goes_by_what_a_gpu_of_40_gib_holds_easily(
    machines: int, per_machine: int, held: int, kind: Kind, over: int
) -> None:
    where = world(machines, per_machine)
    chosen = choose_kind(CONFIG, held=held * GIB, gpu_memory=40 * GIB, world=where)
    assert (chosen, divided_by(chosen, where)) == (kind, over)


def test_auto_on_uneven_machines_splits_over_all() -> None:
    uneven = World(gpus=7, per_machine=3)
    assert choose_kind(CONFIG, held=60 * GIB, gpu_memory=40 * GIB, world=uneven) == "fsdp"


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16-sr"},
        {"optimizer_state": "8bit"},
        {"optimizer_offload": True},
        {"cache_prefix": True, "augment": False, "policy": PolicyConfig(train_expert_only=True)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_auto_never_splits_what_cannot_be_split(settings: dict[str, Any]) -> None:
    assert choose_kind(TrainConfig(**settings), held=99 * GIB, gpu_memory=GIB, world=world(2, 4)) == "ddp"


def test_on_cpus_auto_is_ddp_and_a_kind_that_is_asked_for_is_kept() -> None:
    assert choose_kind(CONFIG, held=99 * GIB, gpu_memory=None, world=world(1, 2)) == "ddp"
    for kind in ("ddp", "fsdp", "hsdp"):
        asked = replace(CONFIG, parallel=kind)
        assert choose_kind(asked, held=1, gpu_memory=None, world=world(1, 1)) == kind


def test_machines_of_a_planned_run() -> None:
    assert World.planned(4) == World(gpus=4, per_machine=4)
    assert World.planned(16) == World(gpus=16, per_machine=8)
    assert World.planned(8, 4) == World(gpus=8, per_machine=4)
    assert World.planned(2, 8) == World(gpus=2, per_machine=2)
    assert [World.planned(gpus).machines for gpus in (1, 8, 9, 16)] == [1, 1, 2, 2]


def test_what_a_whole_network_takes() -> None:
    assert held_bytes(CONFIG, parameters=10, trained=10) == 160
    lora = TrainConfig(policy=PolicyConfig(use_peft=True))
    assert held_bytes(lora, parameters=10, trained=1) == 2 * 9 + 16
    assert held_bytes(replace(lora, precision="float32"), parameters=10, trained=1) == 4 * 9 + 16


@pytest.mark.parametrize(("machines", "per_machine"), [(1, 8), (2, 4), (2, 8), (4, 1)])
@pytest.mark.parametrize("share", [0.3, 0.6, 2.5, 5.0])
def test_run_and_prediction_decide_alike(
    machines: int, per_machine: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device of the run is made up; what a rank decides on it is what the memory check predicts with."""
    parameters, trained = count_parameters(CONFIG, tiny())
    memory = round(held_bytes(CONFIG, parameters=parameters, trained=trained) / share)

    class Properties:
        total_memory = memory

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    monkeypatch.setattr(Ranks, "maxima", lambda ranks, values: list(values))  # all GPUs are alike
    ranks = Ranks(world_size=machines * per_machine, local_world_size=per_machine, device=torch.device("cuda", 0))
    kind = agree_on_kind(CONFIG, tiny(), ranks)
    step = StepMemory(
        at_peak=dict.fromkeys(PARTS, 1_000),
        host=0,
        to_host=0,
        largest_unit=10,
        trained=trained,
        parameters=parameters,
        moved=0,
        gathered_bytes=0,
        gradient_bytes=0,
    )
    gpu = replace(GPUS["h100"], memory_gib=memory / GIB)
    shapes = Shapes(batch=1, cameras=2, prompt_tokens=8)
    predicted = predict(CONFIG, tiny(), shapes, gpu=gpu, world=ranks.world, step=step)
    assert predicted.kind == kind
    assert predicted.weights == -(-1_000 // divided_by(kind, ranks.world))
