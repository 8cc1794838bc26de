"""Our adapters against the real `peft` library, on whole networks under LeRobot's names: outputs, gradients, files."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot_tree import load_with_peft, with_peft
from safetensors import safe_open
from torch import Tensor

from pi05.checkpoint.peft.adapter import apply_adapter, read_adapter, resolve_full, resolve_targets, write_adapter
from pi05.checkpoint.peft.names import lerobot_modules
from pi05.model.config import ModelConfig
from pi05.model.lora import LoraSpec, add_lora, lora_modules, merge_lora
from pi05.model.pi05 import Pi05
from pi05.types import Batch

TOLERANCE = 2e-6
"""Relative to the greatest value of the same tensor; float32. Without DoRA the operations are the same, in order."""
BF16_TOLERANCE = 2e-2
"""Relative; bfloat16 keeps 8 bits, and DoRA rounds the base's product before its bias is added, PEFT after."""
STEPS = 3

EVERYWHERE = ["q_proj", "v_proj", "down_proj", "fc1", "linear", "action_in_proj", "dense"]
KINDS: dict[str, dict[str, Any]] = {
    "default": {"r": 4},
    "alpha": {"r": 3, "lora_alpha": 7},
    "rslora": {"r": 4, "lora_alpha": 4, "use_rslora": True},
    "dora": {"r": 4, "use_dora": True},
    "dora with rslora": {"r": 4, "use_dora": True, "use_rslora": True},
    "dropout": {"r": 4, "lora_dropout": 0.3},
    "dora with dropout": {"r": 4, "lora_dropout": 0.3, "use_dora": True},
    "patterns": {"r": 4, "rank_pattern": {"q_proj": 2, r".*\.1\.self_attn\.v_proj": 5}, "alpha_pattern": {"fc1": 3}},
    "in full": {"r": 4, "modules_to_save": ["time_mlp_in", "time_mlp_out", "model.norm.dense"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return ModelConfig(
        image_size=12, patch_size=4, vision_width=16, vision_depth=2, vision_mlp=24, vision_heads=2, vocab_size=40,
        language_width=24, language_mlp=32, expert_width=20, expert_mlp=28, depth=2, num_heads=8, num_kv_heads=2,
        head_dim=4, action_dim=6, horizon=5, max_prompt_tokens=12,
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(config) -> Pi05:
    """Return a frozen network in which no gate is closed."""
    generator = torch.Generator().manual_seed(0)
    model = Pi05(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5, generator=generator)
    return model.requires_grad_(False).train()


@pytest.fixture(scope="module")
def batch(config) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        images=torch.randint(0, 256, (3, 2, 12, 12, 3), generator=generator, dtype=torch.uint8),
        image_mask=torch.tensor([[True, False], [True, True], [True, True]]),
        tokens=torch.randint(1, config.vocab_size, (3, 9), generator=generator),
        token_mask=torch.arange(9)[None] < torch.tensor([3, 9, 7])[:, None],
        actions=torch.randn(3, config.horizon, config.action_dim, generator=generator),
    )


def disturb(wrapped: Any) -> None:
    """Move everything that PEFT would train off its start, so that B is not zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator) * (parameter.abs().mean() + 0.2)


def pair(base: Pi05, folder: Path, **settings: Any) -> tuple[Pi05, Pi05, Any]:
    """Return a network with PEFT's adapters, ours with the same ones through PEFT's files, and PEFT's tree."""
    theirs, ours = deepcopy(base), deepcopy(base)
    wrapped = with_peft(theirs, target_modules=EVERYWHERE, **settings)
    disturb(wrapped)
    wrapped.save_pretrained(folder)
    adapter = read_adapter(folder, ours)
    apply_adapter(ours, adapter)
    for module in lora_modules(ours).values():
        for part in (module.lora_a, module.lora_b, module.lora_magnitude):
            if part is not None:
                part.requires_grad_()
    for name in adapter.full:
        ours.get_parameter(name).requires_grad_()
    return theirs, ours, wrapped


def loss(model: Pi05, batch: Batch) -> Tensor:
    torch.manual_seed(5)  # dropout draws from the global generator, PEFT's too
    generator = torch.Generator().manual_seed(4)
    return model.loss(batch, generator=generator).mean()


def trained(model: Pi05) -> dict[str, Tensor]:
    """Return our names → trainable parameters of our network."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def theirs_as_ours(model: Pi05, wrapped: Any, ours: Pi05) -> dict[str, Tensor]:
    """Return PEFT's trainable parameters under our names; all of them are found again."""
    linear = {ours_name: foreign for foreign, ours_name in lerobot_modules(ours).linear.items()}
    found: dict[str, Tensor] = {}
    parameters = {
        name.removeprefix("base_model.model."): parameter
        for name, parameter in wrapped.named_parameters()
        if parameter.requires_grad
    }
    for name in trained(ours):
        module, _, part = name.rpartition(".")
        ending = {
            "lora_a": "lora_A.default.weight",
            "lora_b": "lora_B.default.weight",
            "lora_magnitude": "lora_magnitude_vector.default.weight",
        }.get(part, f"modules_to_save.default.{part}")
        found[name] = parameters.pop(f"{linear[module]}.{ending}")
    assert not parameters, sorted(parameters)
    return found


def assert_equal(
    ours: Tensor, theirs: Tensor, what: str, tolerance: float = TOLERANCE, least_scale: float = 0.0
) -> None:
    assert ours.shape == theirs.shape, what
    greatest = float(theirs.detach().double().abs().max())
    assert greatest > 0, f"{what}: an empty comparison"
    scale = max(greatest, least_scale)
    worst = float((ours.detach().double() - theirs.detach().double()).abs().max())
    assert worst <= tolerance * scale, f"{what}: differs by {worst:.3g}, values up to {scale:.3g}"


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_gradients_and_steps(base, batch, tmp_path, kind):
    """Loss, every gradient, and every trained parameter after AdamW steps; through the file that peft wrote."""
    theirs, ours, wrapped = pair(base, tmp_path, **KINDS[kind])
    mine, other = trained(ours), theirs_as_ours(theirs, wrapped, ours)
    optimizers = [torch.optim.AdamW(list(side.values()), lr=1e-2) for side in (mine, other)]
    assert float((loss(base, batch) - loss(ours, batch)).detach().abs()) > 1e-3
    for step in range(STEPS):
        losses = [loss(model, batch) for model in (ours, theirs)]
        assert_equal(losses[0], losses[1], f"loss at step {step}")
        for optimizer, value in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            value.backward()
        dead = {name for name, parameter in mine.items() if parameter.grad is None}
        assert dead == {name for name, parameter in other.items() if parameter.grad is None}
        assert all(name.startswith("language.layers.1.") for name in dead), dead
        for name in set(mine) - dead:
            assert_equal(mine[name].grad, other[name].grad, f"gradient of {name} at step {step}", 10**step * 1e-5)
        for optimizer in optimizers:
            optimizer.step()
    for name, parameter in mine.items():
        assert_equal(parameter, other[name], f"{name} after {STEPS} steps", 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights(base, batch, tmp_path, kind):
    theirs, ours, wrapped = pair(base, tmp_path, **KINDS[kind])
    ours.eval(), theirs.eval()
    unmerged = loss(ours, batch)
    merge_lora(ours)
    assert not lora_modules(ours)
    merged = wrapped.merge_and_unload()
    for foreign, name in lerobot_modules(ours).linear.items():
        assert_equal(ours.get_submodule(name).weight, merged.get_submodule(foreign).weight, f"merged {name}")
    assert_equal(loss(ours, batch), unmerged, "loss of the merged network", 1e-5)


@pytest.mark.parametrize("kind", ["default", "dora"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_bfloat16(base, batch, tmp_path, kind, stored):
    """Adapters stay float32 on a base that computes in bfloat16, whatever it is stored in."""
    low = deepcopy(base).to(stored)
    low.compute_dtype = torch.bfloat16
    theirs, ours, wrapped = pair(low, tmp_path, **KINDS[kind])
    mine, other = trained(ours), theirs_as_ours(theirs, wrapped, ours)
    assert {parameter.dtype for parameter in [*mine.values(), *other.values()]} == {torch.float32}
    losses = [loss(model, batch) for model in (ours, theirs)]
    for value in losses:
        value.backward()
    gradients = {name: (mine[name].grad, other[name].grad) for name in mine if mine[name].grad is not None}
    assert_equal(losses[0], losses[1], "loss", BF16_TOLERANCE)
    greatest = max(float(gradient.abs().max()) for _, gradient in gradients.values())
    for name, (gradient, golden) in gradients.items():
        assert_equal(gradient, golden, f"gradient of {name}", BF16_TOLERANCE, greatest)


@pytest.mark.parametrize("kind", ["default", "rslora", "dora", "patterns", "in full"])
def test_peft_loads_what_we_write(base, batch, tmp_path, kind):
    """Our folder loads into LeRobot's tree without a missing or unexpected key, and gives the same network."""
    _, ours, _ = pair(base, tmp_path / "theirs", **KINDS[kind])
    full = [name for name in trained(ours) if ".lora_" not in name]
    write_adapter(tmp_path / "ours", ours, base="somewhere", full=full)
    loaded = deepcopy(base)
    wrapped = load_with_peft(loaded, tmp_path / "ours")
    assert_equal(loss(loaded.eval(), batch), loss(ours.eval(), batch), "loss")
    for name, parameter in theirs_as_ours(loaded, wrapped, ours).items():
        assert torch.equal(parameter, ours.get_parameter(name)), name


@pytest.mark.parametrize("kind", ["default", "dora", "patterns", "in full"])
def test_same_tensors_as_peft_writes(base, tmp_path, kind):
    """Names, shapes, values and metadata of the weight file; and every field of ours has peft's value."""
    _, ours, _ = pair(base, tmp_path / "theirs", **KINDS[kind])
    full = [name for name in trained(ours) if ".lora_" not in name]
    write_adapter(tmp_path / "ours", ours, base="somewhere", full=full, extra={"target_modules": EVERYWHERE})
    files = [safe_open(tmp_path / side / "adapter_model.safetensors", "pt") for side in ("ours", "theirs")]
    assert files[0].metadata() == files[1].metadata() == {"format": "pt"}
    assert sorted(files[0].keys()) == sorted(files[1].keys())
    for name in files[0].keys():  # noqa: SIM118  (not a dictionary)
        assert torch.equal(files[0].get_tensor(name), files[1].get_tensor(name)), name
    mine, other = (json.loads((tmp_path / side / "adapter_config.json").read_text()) for side in ("ours", "theirs"))
    differing = {key for key, value in mine.items() if value != other[key]}
    chosen = {"auto_mapping", "base_model_name_or_path", "target_modules", "modules_to_save"}
    assert differing <= chosen | {"rank_pattern", "alpha_pattern"}
    assert sorted(mine["target_modules"]) == sorted(other["target_modules"])


PATTERNS: dict[str, Any] = {
    "LeRobot's default": r"(.*\.gemma_expert\..*\.self_attn\.(q|v)_proj|model\.(state_proj|action_in_proj|"
    r"action_out_proj|action_time_mlp_in|action_time_mlp_out))",
    "list of endings": ["q_proj", "v_proj"],
    "one whole name": ["model.time_mlp_in"],
    "several parts": ["self_attn.out_proj", "mlp.gate_proj", "input_layernorm.dense"],
    "language model": r".*\.language_model\..*_proj",
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("settings", [{}, {"exclude": ["v_proj"]}, {"exclude": r".*\.layers\.0\..*"}, {"full": True}])
def test_patterns_hit_what_peft_hits(base, pattern, settings):
    full = ["action_in_proj", "layers.1.self_attn.q_proj"] if "full" in settings else []
    wrapped = with_peft(
        deepcopy(base),
        r=1,
        target_modules=PATTERNS[pattern],
        exclude_modules=settings.get("exclude"),
        modules_to_save=full,
    )
    ours = resolve_targets(base, PATTERNS[pattern], settings.get("exclude"), modules_to_save=full)
    assert sorted(ours.values()) == sorted(wrapped.base_model.targeted_module_names)
    saved = {
        name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
        for name, parameter in wrapped.named_parameters()
        if parameter.requires_grad and ".lora_" not in name
    }
    assert set(resolve_full(base, full).values()) == saved


@pytest.mark.parametrize("layers", [0, [1], [0, 1]])
@pytest.mark.parametrize("pattern", [None, "layers", ["layers"]])
def test_layers_to_transform(base, batch, tmp_path, layers, pattern):
    """Read as peft reads it: only these layers, in every tower, have adapters."""
    theirs, ours = deepcopy(base), deepcopy(base)
    wrapped = with_peft(
        theirs, r=2, target_modules=["q_proj"], layers_to_transform=layers, layers_pattern=pattern
    )  # fmt: skip
    disturb(wrapped)
    wrapped.save_pretrained(tmp_path)
    apply_adapter(ours, read_adapter(tmp_path, ours))
    foreign = {lerobot_modules(base).linear[name] for name in wrapped.base_model.targeted_module_names}
    assert set(lora_modules(ours)) == foreign
    assert_equal(loss(ours, batch), loss(theirs, batch), "loss")


@pytest.mark.filterwarnings("ignore:.*embedding layer:UserWarning")
def test_all_linear_of_peft_has_adapters_on_dead_heads(base, batch, tmp_path):
    """LeRobot's tree has two heads that π₀.₅ does not use; adapters on them are ignored by name, with a reason."""
    theirs, ours = deepcopy(base), deepcopy(base)
    wrapped = with_peft(theirs, r=2, target_modules="all-linear")
    disturb(wrapped)
    wrapped.save_pretrained(tmp_path)
    adapter = read_adapter(tmp_path, ours)
    assert sorted(adapter.ignored) == [
        f"base_model.model.model.paligemma_with_expert.{head}.lm_head.lora_{part}.weight"
        for head in ("gemma_expert", "paligemma")
        for part in ("A", "B")
    ]
    assert set(adapter.specs) == set(resolve_targets(base, "all-linear"))
    apply_adapter(ours, adapter)
    assert_equal(loss(ours, batch), loss(theirs, batch), "loss")


@pytest.mark.parametrize("start", ["uniform", "gaussian"])
def test_first_values_are_distributed_as_pefts(start):
    """Not the same draws: the same distribution, over 8192 values of A."""
    linear = {"uniform": True, "gaussian": "gaussian"}[start]
    import peft

    from pi05.model.layers import Linear

    torch.manual_seed(0)
    holder = torch.nn.ModuleDict({"map": Linear(512, 8)})
    theirs = peft.get_peft_model(
        torch.nn.ModuleDict({"map": Linear(512, 8)}),
        peft.LoraConfig(r=16, target_modules=["map"], init_lora_weights=linear),
    ).base_model.model["map"]
    add_lora(holder, {"map": LoraSpec(rank=16, alpha=16)}, torch.Generator().manual_seed(0), start)
    ours, golden = holder["map"].lora_a, theirs.lora_A["default"].weight
    assert float(ours.detach().std()) == pytest.approx(float(golden.detach().std()), rel=0.03)
    assert float(ours.detach().abs().max()) == pytest.approx(float(golden.detach().abs().max()), rel=0.3)
    assert not holder["map"].lora_b.any()
