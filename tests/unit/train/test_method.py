"""The methods of training: one word each, the settings behind it, and the learning rate that follows."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pi05 import presets
from pi05.settings.flags import overlay
from pi05.train.config import TrainConfig
from pi05.train.lora_config import PeftConfig
from pi05.train.method import FULL_RATES, MEANINGS, Method
from pi05.train.policy_config import PolicyConfig


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("before", [None, *get_args(Method)])
def test_the_settings_of_a_word_make_that_method_out_of_any_other(method: Method, before: Method | None) -> None:
    values = {} if before is None else MEANINGS[before].settings
    started = TrainConfig.from_dict(overlay(TrainConfig().to_dict(), values))
    config = TrainConfig.from_dict(overlay(started.to_dict(), MEANINGS[method].settings))
    assert config.method == method


@pytest.mark.parametrize(
    ("policy", "quantize", "method", "part"),
    [
        ({}, "none", "full", "full"),
        ({"freeze_vision_encoder": True}, "none", "frozen-vision", "frozen-vision"),
        ({"train_expert_only": True, "freeze_vision_encoder": True}, "none", "expert", "expert"),
        ({"use_peft": True}, "none", "lora", "full"),
        ({"use_peft": True, "train_expert_only": True}, "none", "lora", "expert"),
        ({"use_peft": True, "freeze_vision_encoder": True}, "int8", "qlora", "frozen-vision"),
        ({}, "nf4", "full", "full"),  # nothing is frozen that could be held in fewer bits
    ],
)
def test_flags_have_a_word(policy: dict[str, Any], quantize: str, method: str, part: str) -> None:
    config = TrainConfig.from_dict({"policy": policy, "peft": {"quantize": quantize}})
    assert (config.method, config.part) == (method, part)
    assert config.uses_adapters == policy.get("use_peft", False)
    assert config.quantised_base == (method == "qlora")
    assert config.lora_rank == (16 if config.uses_adapters else 0)


def test_adapters_learn_ten_times_as_fast_from_python_too() -> None:
    config = TrainConfig(policy=PolicyConfig(use_peft=True), peft=PeftConfig(quantize="nf4"))
    assert (config.learning_rate, config.decay_lr) == (2.5e-4, 2.5e-5)
    given = TrainConfig(policy=PolicyConfig(use_peft=True, optimizer_lr=1e-4, scheduler_decay_lr=0.0))
    assert (given.learning_rate, given.decay_lr) == (1e-4, 0.0)


@pytest.mark.parametrize(
    ("preset", "peak", "end"),
    [(None, 2.5e-5, 2.5e-6), ("real", 2.5e-5, 2.5e-6), ("sim", 5e-5, 5e-5), ("tiny", 3e-4, 3e-5), ("demo", 1e-3, 1e-4)],
)
def test_the_rates_of_the_presets(preset: str | None, peak: float, end: float) -> None:
    config = TrainConfig() if preset is None else presets.get(preset)
    assert (config.learning_rate, config.decay_lr) == pytest.approx((peak, end), rel=1e-12)
    lora = TrainConfig.from_dict(overlay(config.to_dict(), {"policy.use_peft": True}))
    assert (lora.learning_rate, lora.decay_lr) == pytest.approx((10 * peak, 10 * end), rel=1e-12)


def test_every_word_has_a_meaning() -> None:
    assert set(MEANINGS) == set(get_args(Method))


def test_every_preset_has_its_rate() -> None:
    assert set(FULL_RATES) == {None, *presets.PRESETS}
