"""What LoRA's settings mean: pattern, list or named set; alpha; what is refused."""

from __future__ import annotations

import re

import pytest

from pi05.errors import ConfigError
from pi05.train.config import TrainConfig
from pi05.train.lora_config import TARGET_SETS, PeftConfig


def test_alpha_defaults_to_the_rank() -> None:
    assert PeftConfig(r=4).alpha == 4.0
    assert PeftConfig(r=4, lora_alpha=8.0).alpha == 8.0


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("[q_proj,v_proj]", ("q_proj", "v_proj")),
        ('["q_proj", "v_proj"]', ("q_proj", "v_proj")),
        (r".*\.self_attn\.(q|v)_proj", r".*\.self_attn\.(q|v)_proj"),
        (r".*\.[qv]_proj", r".*\.[qv]_proj"),
        (r"[^.]+\.[qv]_proj", r"[^.]+\.[qv]_proj"),
        ("expert", TARGET_SETS["expert"]),
    ],
)
def test_targets_are_a_list_a_pattern_or_a_named_set(text: str, targets: object) -> None:
    assert PeftConfig(target_modules=text).targets == targets


def test_the_named_sets_are_nested() -> None:
    expert = "model.paligemma_with_expert.gemma_expert.model.layers.17.mlp.down_proj"
    language = "model.paligemma_with_expert.paligemma.model.language_model.layers.0.self_attn.k_proj"
    vision = "model.paligemma_with_expert.paligemma.model.vision_tower.vision_model.encoder.layers.0.self_attn.k_proj"
    norm = "model.paligemma_with_expert.gemma_expert.model.layers.0.input_layernorm.dense"
    hits = {
        name: [bool(re.fullmatch(pattern, module)) for module in (expert, language, vision, norm)]
        for name, pattern in TARGET_SETS.items()
    }
    assert hits["all"] == [True, True, False, False]
    assert hits["expert"] == [True, False, False, False]
    assert hits["lerobot"] == [False] * 4
    assert re.fullmatch(TARGET_SETS["lerobot"], expert.replace("mlp.down_proj", "self_attn.q_proj"))


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"r": 0}, "--peft.r"),
        ({"lora_alpha": 0.0}, "--peft.lora_alpha"),
        ({"lora_dropout": 1.0}, "--peft.lora_dropout"),
        ({"target_modules": "(q_proj"}, "--peft.target_modules"),
        ({"target_modules": "[]"}, "--peft.target_modules"),
        ({"target_modules": ""}, "--peft.target_modules"),
        ({"init_type": "pissa"}, "--peft.init_type"),
        ({"method_type": "loha"}, "--peft.method_type"),
        ({"quantize": "nf5"}, "--peft.quantize"),
    ],
)
def test_impossible_values_are_refused_by_name(values: dict[str, object], flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict({"peft": values})
    assert caught.value.problem.startswith(f"{flag} cannot be ")
