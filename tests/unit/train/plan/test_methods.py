"""Plans, proposals and refusals, on small networks and made-up GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import write_dataset
from rich.console import Console

from pi05 import cli
from pi05.commands.train import read_training_settings
from pi05.errors import ConfigError, TrainingError
from pi05.model.config import ModelConfig, tiny
from pi05.train.config import TrainConfig
from pi05.train.data import build_data
from pi05.train.optim.config import EmaConfig
from pi05.train.parallel.kind import World
from pi05.train.parallel.ranks import Ranks
from pi05.train.plan import methods, report
from pi05.train.plan.gpus import GIB, GPUS, Gpu
from pi05.train.plan.memory import (
    COLLECTIVES,
    CUBLAS_WORKSPACE,
    CUDA_CONTEXT,
    FRAGMENTATION,
    ONE_GPU,
    MemoryPrediction,
    predict,
)
from pi05.train.plan.methods import (
    FULL,
    RECIPES,
    Plan,
    changed_config,
    changed_flags,
    make_plan,
    propose,
    same_method,
    settle_recomputation,
)
from pi05.train.plan.report import describe_gpu, overview, plain, proposal_text, proposals_text, verdict
from pi05.train.plan.require_memory import available_memory, check_memory, require_host_memory, require_memory
from pi05.train.plan.step_on_shapes import Shapes
from pi05.train.policy_config import PolicyConfig
from pi05.train.resume import OpenRun

SIZES = replace(tiny(), language_width=256, language_mlp=1024, depth=2, vision_depth=1)
SHAPES = Shapes(batch=8, cameras=2, prompt_tokens=16)
CONFIG = TrainConfig(batch_size=8, policy=PolicyConfig(path="base"))
FIXED = CUBLAS_WORKSPACE * (1 + FRAGMENTATION)
"""What a tiny run needs besides its tensors, where CUDA has taken its own already."""


def gpu_with(memory: int, name: str = "rtx4090") -> Gpu:
    return replace(GPUS[name], memory_gib=memory / GIB)


def predicted(config: TrainConfig = CONFIG, sizes: ModelConfig = SIZES, gpus: int = 1) -> MemoryPrediction:
    return predict(config, sizes, SHAPES, world=World.planned(gpus))


def plan_with_free(free: int, config: TrainConfig = CONFIG) -> Plan:
    return make_plan(config, SIZES, SHAPES, GPUS["rtx4090"], ONE_GPU, free)


def test_a_plan_fits_when_its_peak_the_gaps_and_cuda_do() -> None:
    memory = predicted()
    assert memory.peak == sum(memory.parts.values())
    assert memory.needed == round(memory.peak * (1 + FRAGMENTATION)) + CUDA_CONTEXT
    assert make_plan(CONFIG, SIZES, SHAPES, gpu_with(memory.needed + 1000)).fits
    small = make_plan(CONFIG, SIZES, SHAPES, gpu_with(memory.needed - 1000))
    assert not small.fits
    assert "does not fit" in verdict(small)


@pytest.mark.slow
def test_the_proposal_is_the_best_method_that_fits() -> None:
    needed = predicted().needed_beside_cuda
    before, found = len(RECIPES), []
    for share in (0.9, 0.5, 0.3):
        proposal = propose(plan_with_free(round(share * (needed - FIXED) + FIXED)))
        assert proposal is not None
        assert proposal.plan.fits
        names = [recipe.name for recipe in RECIPES]
        found.append(names.index(proposal.method.removesuffix(", smaller forward passes")))
        assert proposal.flags
    assert found == sorted(found), "less memory, lighter method"
    assert found[0] < found[-1] < before
    assert propose(plan_with_free(0)) is None
    assert "no method" in proposal_text(None)


def test_the_flags_of_a_proposal_make_its_configuration() -> None:
    arguments = ["--batch_size=8", "--policy.path=base", "--output_dir=run"]
    config = read_training_settings(arguments)[0].config
    for share in (0.9, 0.5):
        needed = predicted(config).needed_beside_cuda
        proposal = propose(plan_with_free(round(share * (needed - FIXED) + FIXED), config))
        assert proposal is not None
        again = read_training_settings([*arguments, *proposal.flags])[0].config
        assert again == proposal.plan.config


@pytest.mark.slow
def test_a_moving_average_is_given_up_before_full_fine_tuning() -> None:
    averaged = replace(CONFIG, ema=EmaConfig(enable=True))
    full = [changed_config(plan_with_free(0, averaged), recipe.settings) for recipe in FULL]
    needed = min(predicted(config).needed_beside_cuda for config in full if config is not None)
    kept, given_up = (propose(plan_with_free(free, averaged)) for free in (needed, needed - 1))
    assert kept is not None
    assert given_up is not None
    assert not any(flag.startswith("--ema") for flag in kept.flags)
    assert "--ema.enable=false" in given_up.flags
    assert "--method=lora" not in given_up.flags
    assert given_up.method.endswith("no moving average")
    assert all(proposal.plan.config.ema.enable is not (proposal is given_up) for proposal in (kept, given_up))


def test_one_gpu_is_not_told_to_split_and_several_are() -> None:
    one = propose(plan_with_free(round(0.6 * predicted().needed_beside_cuda)))
    assert one is not None
    assert not any(flag.startswith("--parallel") for flag in one.flags)
    alone, split = predicted(), predicted(replace(CONFIG, parallel="fsdp"), gpus=4)
    assert split.kind == "fsdp"
    assert split.weights == -(-alone.weights // 4)
    assert split.optimizer == -(-alone.optimizer // 4)
    assert split.activations == alone.activations
    assert split.workspace > alone.workspace + COLLECTIVES
    both = predicted(replace(CONFIG, parallel="ddp"), gpus=4)
    assert both.weights == alone.weights
    assert both.gradients == both.step.gradient_bytes, "its buckets stand all the time"
    assert both.peak >= alone.peak + COLLECTIVES


def test_automatic_parallel_splits_what_a_gpu_hardly_holds() -> None:
    step = predicted().step
    held = step.at_peak["weights"] + step.at_peak["optimizer"] + 4 * step.trained
    kinds = [
        predict(CONFIG, SIZES, SHAPES, gpu=gpu_with(memory), world=World.planned(8)).kind for memory in (held, 3 * held)
    ]
    assert kinds == ["fsdp", "ddp"]
    assert predict(CONFIG, SIZES, SHAPES, gpu=gpu_with(held), world=World.planned(16)).kind == "hsdp"


def test_a_run_that_cannot_fit_is_refused_with_the_proposal() -> None:
    gpu = describe_gpu("NVIDIA GeForce RTX 4090", 24 * GIB)
    needed = predicted().needed_beside_cuda
    line = check_memory(CONFIG, SIZES, 2, 16, gpu, needed + 1, ONE_GPU)
    assert "predicted" in line
    with pytest.raises(TrainingError, match="does not fit") as caught:
        check_memory(CONFIG, SIZES, 2, 16, gpu, round(0.6 * needed), ONE_GPU)
    assert "--allow=memory" in caught.value.remedy
    proposal = propose(plan_with_free(round(0.6 * needed)))
    assert proposal is not None
    assert all(flag in caught.value.remedy for flag in proposal.flags)
    assert "weights" in str(caught.value.wanted)


def test_every_gpu_of_the_table_is_planned_from_one_step() -> None:
    plans = overview(CONFIG, SIZES, SHAPES)
    assert [plan.gpu.name for plan in plans] == list(GPUS)
    assert len({id(plan.memory.step) for plan in plans}) == 1
    fastest = max(plans, key=lambda plan: plan.speed.steps_per_hour if plan.speed else 0)
    assert fastest.gpu.name == "b200"


def between_full_and_none(config: TrainConfig, shapes: Shapes) -> int:
    """Return bytes that are enough with full recomputation and too few without."""
    needed = [
        predict(replace(config, activation_checkpointing=degree), SIZES, shapes).needed for degree in ("full", "none")
    ]
    assert needed[0] < needed[1]
    return sum(needed) // 2


def test_of_auto_each_gpu_gets_its_own_degree(monkeypatch: pytest.MonkeyPatch) -> None:
    auto, shapes = replace(CONFIG, activation_checkpointing="auto"), replace(SHAPES, batch=64)
    room = between_full_and_none(auto, shapes)
    monkeypatch.setattr(report, "GPUS", {"small": gpu_with(room), "large": gpu_with(3 * room)})
    small, large = overview(auto, SIZES, shapes)
    assert small.fits
    assert small.config.activation_checkpointing != "none"
    assert large.config.activation_checkpointing == "none"


def test_the_method_that_was_asked_for_is_kept_where_recomputing_makes_it_fit() -> None:
    shapes = replace(SHAPES, batch=64)
    plan = make_plan(CONFIG, SIZES, shapes, gpu_with(between_full_and_none(CONFIG, shapes)))
    assert not plan.fits
    same = same_method(plan)
    assert same is not None
    assert same.method == "full"
    (flag,) = same.flags
    assert flag.startswith("--activation_checkpointing=")
    assert flag in proposals_text(plan)
    assert same_method(make_plan(CONFIG, SIZES, shapes, gpu_with(1))) is None
    quantised = read_training_settings(["--method=qlora", "--output_dir=run"])[0].config
    assert quantised.method == "qlora"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--parallel=fsdp", "--precision=bf16-sr"], "--precision=bf16-sr cannot be combined with --parallel=fsdp"),
        (["--parallel=fsdp", "--method=qlora"], "a base in nf4 cannot be split over GPUs"),
        (["--gradient_release"], "--gradient_release works on one GPU only"),
        (["--parallel=fsdp", "--method=expert", "--augment=false", "--cache_prefix"], "--cache_prefix cannot be"),
    ],
)
def test_what_training_would_refuse_is_not_planned(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", "--preset=tiny", "--gpu=h100", "--gpus=2", *flags]) == 2
    assert told in capsys.readouterr().err


def test_what_is_proposed_computes_the_prefix_that_it_trains() -> None:
    alone = PolicyConfig(path="base", train_expert_only=True)
    cached = replace(CONFIG, policy=alone, augment=False, cache_prefix=True)
    plan = make_plan(cached, SIZES, SHAPES, GPUS["rtx4090"])
    proposed = [changed_config(plan, recipe.settings) for recipe in RECIPES]
    assert all(each is not None and not each.cache_prefix for each in proposed)


def test_a_gpu_that_is_not_in_the_table_has_no_speed() -> None:
    gpu = describe_gpu("Unheard Of 9000", 8 * GIB)
    assert gpu.memory == 8 * GIB
    plan = make_plan(CONFIG, SIZES, SHAPES, gpu)
    assert plan.speed is None
    assert plain(plan, None)["steps_per_hour"] is None
    assert describe_gpu("NVIDIA H200", 140 * GIB).bf16_tflops == GPUS["h200"].bf16_tflops


def test_offloaded_moments_cost_time() -> None:
    plan, away = (
        make_plan(replace(CONFIG, optimizer_offload=offload), SIZES, SHAPES, GPUS["rtx4090"])
        for offload in (False, True)
    )
    assert plan.speed is not None
    assert away.speed is not None
    assert (away.memory.optimizer, plan.memory.host) == (0, 0)
    assert away.memory.host > 0
    assert away.speed.step_seconds > plan.speed.step_seconds


def test_page_locked_memory_is_refused_above_most_of_what_is_available(tmp_path: Path) -> None:
    require_host_memory(80 * GIB, 100 * GIB)
    require_host_memory(80 * GIB, None)
    with pytest.raises(TrainingError, match="the machine has too little memory") as refusal:
        require_host_memory(81 * GIB, 100 * GIB)
    assert (refusal.value.found, "a machine with 101.2 GiB free" in refusal.value.remedy) == (
        "100.0 GiB available",
        True,
    )
    table = tmp_path / "meminfo"
    assert available_memory(table) is None
    table.write_text("MemTotal:       32000000 kB\nMemAvailable:   31000000 kB\n")
    assert available_memory(table) == 31_000_000 * 1024
    table.write_text("MemTotal:       32000000 kB\n")
    assert available_memory(table) is None


def test_what_barely_fits_is_proposed_only_where_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A desktop may be on a GPU that nobody has looked at; what is free on one that is there is known."""
    config = replace(CONFIG, activation_checkpointing="none")
    plans = {
        recipe.name: make_plan(changed, SIZES, SHAPES, gpu_with(1))
        for recipe in FULL
        if (changed := changed_config(make_plan(config, SIZES, SHAPES, gpu_with(1)), recipe.settings)) is not None
    }
    needed = {name: plan.required for name, plan in plans.items()}
    names = list(needed)
    barely = names[2]
    assert needed[barely] < min(needed[name] for name in names[:2]) - 2_000
    lighter = next(name for name in names[3:] if needed[name] < needed[barely] - 2_000)
    monkeypatch.setattr(methods, "DESKTOP", 2_000)
    gpu = gpu_with(needed[barely] + 1_000)
    found = propose(make_plan(config, SIZES, SHAPES, gpu))
    assert found is not None
    assert found.method == lighter
    free = plans[barely].memory.needed_beside_cuda + 1_000
    there = propose(make_plan(config, SIZES, SHAPES, GPUS["rtx4090"], ONE_GPU, free))
    assert there is not None
    assert there.method == barely
    monkeypatch.setattr(methods, "DESKTOP", gpu.memory)
    nowhere = propose(make_plan(config, SIZES, SHAPES, gpu))
    assert nowhere is not None
    assert nowhere.method == barely


def test_recomputation_is_the_least_that_fits() -> None:
    auto, big = replace(CONFIG, activation_checkpointing="auto"), replace(SHAPES, batch=64)
    none, selective = (
        predict(replace(CONFIG, activation_checkpointing=degree), SIZES, big).needed_beside_cuda
        for degree in ("none", "selective")
    )
    assert selective < none
    found = []
    for free in (none, selective, 0):
        settled = settle_recomputation(auto, SIZES, big, GPUS["rtx4090"], ONE_GPU, free)
        found.append(settled.activation_checkpointing)
    assert found == ["none", "selective", "full"]
    assert settle_recomputation(CONFIG, SIZES, SHAPES, GPUS["rtx4090"], ONE_GPU, 0) is CONFIG


def test_flags_say_what_changed() -> None:
    lora = replace(CONFIG, policy=replace(CONFIG.policy, use_peft=True), activation_checkpointing="full")
    assert changed_flags(CONFIG, lora) == ("--method=lora", "--activation_checkpointing=full")
    assert changed_flags(CONFIG, CONFIG) == ()


def test_every_method_is_a_configuration_that_can_be() -> None:
    for recipe in RECIPES:
        flags = [f"--{path}={str(value).lower()}" for path, value in recipe.settings.items()]
        try:
            read_training_settings(["--policy.path=base", *flags])
        except ConfigError as error:
            raise AssertionError(f"{recipe.name}: {error}") from error


class FakeDevice:
    """Stands for a CUDA device of a few bytes."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, device: torch.device) -> tuple[int, int]:
        """Return free and total bytes, as `torch.cuda.mem_get_info` does."""
        return self.free, 24 * GIB


def test_training_asks_the_device_unless_it_is_a_cpu_or_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(write_dataset(tmp_path / "set").root)
    flags = ["--preset=tiny", f"--dataset.root={root}", "--batch_size=2", f"--output_dir={tmp_path / 'run'}"]
    config = read_training_settings(flags)[0].config
    data = build_data(config, tiny(), Console(quiet=True), OpenRun(root=tmp_path / "run"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", FakeDevice(free=1_000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 4090")
    told: list[str] = []
    with pytest.raises(TrainingError, match="does not fit the GPU"):
        require_memory(config, tiny(), data, Ranks(device=torch.device("cuda")), told.append)
    require_memory(config, tiny(), data, Ranks(), told.append)
    require_memory(replace(config, allow=("memory",)), tiny(), data, Ranks(device=torch.device("cuda")), told.append)
    assert not told
    monkeypatch.setattr(torch.cuda, "mem_get_info", FakeDevice(free=20 * GIB))
    require_memory(config, tiny(), data, Ranks(device=torch.device("cuda")), told.append)
    assert len(told) == 1
    auto = replace(config, activation_checkpointing="auto")
    settled = require_memory(auto, tiny(), data, Ranks(device=torch.device("cuda")), told.append)
    assert settled.activation_checkpointing == "none"
    assert require_memory(auto, tiny(), data, Ranks(), told.append).recomputed == 0
