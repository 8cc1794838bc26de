"""LoRA in a run: what is hit and trained, a prefix without a backward pass, the precision of the base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from pi05.errors import CheckpointError, ConfigError
from pi05.model.config import tiny
from pi05.model.lora import LoraSpec, lora_modules
from pi05.model.pi05 import Pi05
from pi05.model.quantize import quantized_weights
from pi05.train.activations import apply_from_outside
from pi05.train.config import PolicyConfig, TrainConfig
from pi05.train.lora import (
    add_adapters,
    base_weights,
    freeze_base,
    frozen_precision,
    is_adapter_part,
    lora_table,
    narrow_frozen_maps,
    parameters_of_plan,
    plan_lora,
    read_trained,
    write_trained,
)
from pi05.train.lora_config import PeftConfig
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.parameters import count_groups
from pi05.train.step import LossSettings, TrainState, train_step
from pi05.types import Batch

SIZES = tiny()
BASE = {"path": "../../base", "sha256": "0", "source": "/somewhere"}


def configure(*, expert: bool = False, vision: bool = False, **peft: Any) -> TrainConfig:
    policy = PolicyConfig(use_peft=True, train_expert_only=expert, freeze_vision_encoder=vision)
    return TrainConfig(policy=policy, peft=PeftConfig(**peft))


def network(dtype: torch.dtype = torch.float32) -> Pi05:
    """Return a network whose branches are open; drawn for training from scratch, the expert's gates are closed."""
    model, generator = Pi05(SIZES, dtype), torch.Generator().manual_seed(3)
    model.initialize(generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".modulation." in name:
                parameter.normal_(std=0.2, generator=generator)
    return model


def adapted(config: TrainConfig, dtype: torch.dtype = torch.float32) -> tuple[Pi05, dict[str, nn.Parameter]]:
    model = network(dtype)
    plan = plan_lora(config, model)
    add_adapters(model, plan, config)
    return model, freeze_base(model, plan)


def stir(parameters: dict[str, nn.Parameter]) -> None:
    """Give the adapters something to say: as drawn they change nothing."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.02, generator=generator)


def batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        images=torch.randint(0, 256, (2, 1, 48, 48, 3), generator=generator, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.randint(0, 100, (2, 8), generator=generator),
        token_mask=None,
        actions=torch.randn(2, SIZES.horizon, 32, generator=generator),
        trimmed=True,
    )


def loss(model: Pi05) -> torch.Tensor:
    return model.loss(batch(), generator=torch.Generator().manual_seed(1)).mean()


def test_by_default_attention_and_mlp_of_both_experts_and_the_projections() -> None:
    model = network()
    plan = plan_lora(configure(r=4), model)
    wanted = [
        f"{tower}.layers.{layer}.{part}"
        for tower in ("language", "expert")
        for layer in range(SIZES.depth)
        for part in (*(f"attention.{n}" for n in ("query", "key", "value", "out")), "mlp.gate", "mlp.up", "mlp.down")
    ]
    assert sorted(plan.specs) == sorted(wanted)
    assert {(spec.rank, spec.alpha, spec.scaling) for spec in plan.specs.values()} == {(4, 4.0, 1.0)}
    assert sorted(plan.full) == sorted(
        f"{name}.{part}" for name in ("action_in", "action_out", "time_in", "time_out") for part in ("weight", "bias")
    )


def test_every_flag_of_an_adapter_reaches_it() -> None:
    given = {"r": 4, "lora_alpha": 6.0, "use_rslora": True, "use_dora": True, "lora_dropout": 0.25}
    specs = set(plan_lora(configure(**given), network()).specs.values())
    assert specs == {LoraSpec(rank=4, alpha=6.0, rslora=True, dora=True, dropout=0.25)}
    plain = set(plan_lora(configure(r=4), network()).specs.values())
    assert plain == {LoraSpec(rank=4, alpha=4.0)}, "alpha is the rank where it is not given"


def test_endings_hit_the_vision_tower_too_and_the_table_says_so() -> None:
    config = configure(target_modules="[q_proj,v_proj]")
    model, _ = adapted(config)
    plan = plan_lora(config, network())
    assert {name.partition(".")[0] for name in plan.specs} == {"vision", "language", "expert"}
    console = Console(width=120)
    with console.capture() as capture:
        console.print(lora_table(model, plan))
    text = capture.get()
    (row,) = [line for line in text.splitlines() if "vision tower" in line]
    assert f" {2 * SIZES.vision_depth} " in row
    assert f" {2 * SIZES.vision_depth * 16 * 2 * SIZES.vision_width:,} " in row
    assert "query, value" in row
    assert "rank 16, alpha 16, scaling 1" in text


def test_flags_that_freeze_limit_what_the_patterns_hit() -> None:
    model = network()
    everything = plan_lora(configure(target_modules="[q_proj]"), model)
    no_vision = plan_lora(configure(target_modules="[q_proj]", vision=True), model)
    expert = plan_lora(configure(target_modules="[q_proj]", expert=True), model)
    assert {name.partition(".")[0] for name in no_vision.specs} == {"language", "expert"}
    assert {name.partition(".")[0] for name in expert.specs} == {"expert"}
    assert (everything.left_out, no_vision.left_out) == (0, SIZES.vision_depth)
    assert expert.left_out == SIZES.vision_depth + SIZES.depth
    with pytest.raises(ConfigError, match="nothing to adapt"):
        plan_lora(configure(target_modules=r".*vision_tower.*q_proj", vision=True), model)


@pytest.mark.parametrize(
    "peft",
    [{"target_modules": "[q_prj]"}, {"target_modules": "q_proj"}, {"full_training_modules": ("time_mlp",)}],
)
def test_a_pattern_that_matches_nothing_is_an_error(peft: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_lora(configure(**peft), network())
    assert caught.value.remedy


def test_what_both_name_is_trained_in_full() -> None:
    plan = plan_lora(configure(target_modules="lerobot"), network())
    assert not {"action_in", "action_out"} & set(plan.specs)
    assert "action_in.weight" in plan.full
    alone = plan_lora(configure(target_modules="lerobot", full_training_modules=()), network())
    assert {"action_in", "action_out"} <= set(alone.specs)
    assert alone.full == ()


def test_adaptive_norms_can_be_trained_in_full() -> None:
    model, trainable = adapted(configure(full_training_modules=("dense",)))
    norms = {name for name, _ in model.named_parameters() if ".modulation." in name}
    assert norms
    assert {name for name in trainable if not is_adapter_part(name)} == norms


def test_what_is_trained_in_full_is_not_quantised() -> None:
    model, trainable = adapted(configure(full_training_modules=("dense",), quantize="nf4"))
    norms = {name for name in trainable if not is_adapter_part(name)}
    assert norms
    assert all(".modulation." in name for name in norms)
    assert not any(".modulation." in f"{name}." for name in quantized_weights(model))
    assert "expert.layers.0.mlp.up" in quantized_weights(model)


def test_only_adapters_and_full_modules_are_trainable() -> None:
    model, trainable = adapted(configure())
    counts = count_groups(model)
    assert counts["vision tower"].trainable == counts["embedding"].trainable == 0
    assert counts["action and time projections"].frozen == 0
    adapters = sum(value.numel() for name, value in trainable.items() if is_adapter_part(name))
    assert counts["language model"].trainable + counts["action expert"].trainable == adapters
    assert set(base_weights(model)) == {name for name, _ in network().named_parameters()}
    assert {value.dtype for value in trainable.values()} == {torch.float32}


def test_fresh_adapters_change_nothing_and_follow_the_seed() -> None:
    config = configure()
    model, _ = adapted(config)
    assert torch.equal(loss(model), loss(network()))
    same, _ = adapted(config)
    other, _ = adapted(replace(config, seed=7))
    first, second, third = (next(iter(lora_modules(each).values())).lora_a for each in (model, same, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_gaussian_first_values() -> None:
    """Tolerance: 4 standard errors of the spread of 7 x 4 x 2 maps with at least 64 x 16 draws each."""
    model, _ = adapted(configure(init_type="gaussian"))
    drawn = torch.cat([module.lora_a.detach().flatten() for module in lora_modules(model).values()])
    assert float(drawn.std()) == pytest.approx(1 / 16, rel=4 / (2 * len(drawn)) ** 0.5)
    assert torch.equal(loss(model), loss(network()))


@pytest.mark.parametrize("targets", ["expert", "lerobot"])
def test_adapters_in_the_expert_alone_leave_no_graph_behind_the_prefix(targets: str) -> None:
    model, trainable = adapted(configure(target_modules=targets))
    stir(trainable)
    tokens, valid = model.embed_prefix(batch())
    assert not tokens.requires_grad
    assert not any(part.requires_grad for pair in model.prefill(tokens, valid) for part in pair)
    loss(model).backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == set(trainable)
    assert all(name.startswith(("expert.", "action_", "time_")) for name in moved)


def test_adapters_in_the_language_model_get_gradients() -> None:
    """All but those of the last layer's query, output and MLP, which nothing reads."""
    model, trainable = adapted(configure())
    stir(trainable)
    loss(model).backward()
    assert all(parameter.grad is not None for parameter in trainable.values())
    last = f"language.layers.{SIZES.depth - 1}."
    unread = {name for name, _ in model.named_parameters() if is_adapter_part(name)} - set(trainable)
    wanted = ("attention.query", "attention.out", "mlp.gate", "mlp.up", "mlp.down")
    assert unread == {f"{last}{name}.{part}" for name in wanted for part in ("lora_a", "lora_b")}


def test_a_base_held_in_bfloat16_gives_the_same_bits() -> None:
    config = configure(full_training_modules=("action_in_proj", "o_proj"))
    results: list[dict[str, torch.Tensor]] = []
    for hold in (False, True):
        model, trainable = adapted(config, torch.bfloat16)
        stir(trainable)
        if hold:
            narrow_frozen_maps(model, plan_lora(config, network()).full)
            assert model.get_parameter(f"language.layers.{SIZES.depth - 1}.attention.out.weight").dtype == torch.float32
            assert frozen_precision(model) == "bfloat16"
        value = loss(model)
        value.backward()
        gradients = {name: parameter.grad for name, parameter in trainable.items() if parameter.grad is not None}
        results.append({"loss": value.detach(), **gradients})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert value.any(), name
        assert torch.equal(value, results[1][name]), name
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert dtypes["language.layers.0.attention.query.weight"] == torch.bfloat16
    assert dtypes["vision.blocks.0.mlp.up.bias"] == torch.bfloat16
    for kept in (
        "embedding.weight",
        "vision.patch_embedding.weight",
        "language.layers.0.mlp_norm.scale",
        "time_in.bias",
    ):
        assert dtypes[kept] == torch.float32
    assert {parameter.dtype for parameter in trainable.values()} == {torch.float32}


def test_what_stays_in_float32() -> None:
    model, _ = adapted(configure())
    narrow_frozen_maps(model, ())
    assert frozen_precision(model) == "float32"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    dora, _ = adapted(configure(use_dora=True), torch.bfloat16)
    narrow_frozen_maps(dora, ())
    assert dora.get_parameter("expert.layers.0.mlp.up.weight").dtype == torch.float32
    assert dora.get_parameter("vision.blocks.0.mlp.up.weight").dtype == torch.bfloat16


def stepped(*, recompute: bool, dropout: float, disturb: bool = False) -> dict[str, torch.Tensor]:
    """Return the trained values after two steps with dropout."""
    model, trainable = adapted(configure(lora_dropout=dropout))
    stir(trainable)
    apply_from_outside(model, compile_layers=False, recompute_activations=recompute, dropout=dropout > 0)
    schedule = Schedule(peak=1e-3, warmup_steps=1, decay_steps=10, end=1e-4)
    state = TrainState(
        step=0, seed=1, model=model, optimizer=AdamW(trainable, AdamSettings(), schedule), dropout=dropout > 0
    )
    for index in range(2):
        if disturb:
            torch.rand(3)
        train_step(state, [batch(index)], LossSettings())
    return {name: value.detach() for name, value in trainable.items()}


def test_dropout_is_a_function_of_seed_and_step_and_survives_recomputation() -> None:
    plain, disturbed, recomputed, without = (
        stepped(recompute=False, dropout=0.3),
        stepped(recompute=False, dropout=0.3, disturb=True),
        stepped(recompute=True, dropout=0.3),
        stepped(recompute=False, dropout=0.0),
    )
    for name, value in plain.items():
        assert torch.equal(value, disturbed[name]), name
        assert torch.equal(value, recomputed[name]), name
    assert any(not torch.equal(value, without[name]) for name, value in plain.items())


@pytest.mark.parametrize("dora", [False, True])
def test_what_was_trained_survives_its_file_bit_for_bit(tmp_path: Path, dora: bool) -> None:
    config = configure(r=3, lora_alpha=5.0, use_dora=dora, full_training_modules=("action_in_proj", "dense"))
    model, trainable = adapted(config)
    plan = plan_lora(config, network())
    with torch.no_grad():
        for parameter in trainable.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    write_trained(tmp_path, model, plan, BASE)
    found, whole = read_trained(tmp_path, model), parameters_of_plan(model, plan)
    assert set(found) == set(whole) > set(trainable), "the adapters that nothing reads are in the file too"
    assert all(torch.equal(value, whole[name].detach()) for name, value in found.items())


def test_adapters_that_nothing_reads_are_refused() -> None:
    last = f"language_model.*layers.{SIZES.depth - 1}.mlp.up_proj"
    with pytest.raises(ConfigError, match="only what nothing reads") as refusal:
        plan_lora(configure(target_modules=f".*{last}", full_training_modules=()), network())
    assert str(refusal.value.found) == f"language.layers.{SIZES.depth - 1}.mlp.up"


def test_other_adapters_than_the_configured_ones_are_refused(tmp_path: Path) -> None:
    config = configure(r=3)
    model, _ = adapted(config)
    write_trained(tmp_path, model, plan_lora(config, network()), BASE)
    other, _ = adapted(configure(r=4))
    with pytest.raises(CheckpointError, match="other adapters"):
        read_trained(tmp_path, other)
