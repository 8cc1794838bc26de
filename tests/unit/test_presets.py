"""Named runs and what they promise."""

from __future__ import annotations

import json

import pytest

from pi05 import presets
from pi05.errors import ConfigError
from pi05.train.config import TrainConfig


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_is_valid_named_and_survives_its_file(name: str) -> None:
    config = presets.get(name)
    assert config.preset == name
    assert TrainConfig.from_dict(json.loads(config.to_json())) == config
    assert (presets.PRESETS[name].__doc__ or "").count("\n") <= 4


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no preset huge"):
        presets.get("huge")


def test_sim_is_openpis_recipe_for_libero() -> None:
    config = presets.sim()
    policy = config.policy
    assert (policy.chunk_size, policy.n_action_steps, config.prompt_format) == (10, 5, "none")
    assert (config.samples_per_step(), config.steps) == (256, 30_000)
    assert (config.learning_rate, config.warmup_steps) == (5e-5, 10_000)
    assert config.decay_lr == config.learning_rate
    assert (config.ema.enable, config.ema.decay) == (True, 0.999)


@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16, 32])
def test_sim_keeps_its_batch_on_any_number_of_gpus(gpus: int) -> None:
    assert presets.sim().samples_per_step(gpus) == 256


def test_real_keeps_pi05s_chunk_and_puts_the_state_in_the_prompt() -> None:
    config = presets.real()
    assert (config.policy.chunk_size, config.prompt_format) == (50, "state")
    assert config.learning_rate == 2.5e-5


@pytest.mark.parametrize("name", ["tiny", "demo"])
def test_the_small_presets_run_on_a_cpu_from_the_packaged_base(name: str) -> None:
    config = presets.get(name)
    assert config.policy.path == str(presets.TINY_BASE)
    assert (config.precision, config.network, config.policy.device) == ("float32", "tiny", "auto")
    assert not config.policy.compile_model


def test_the_big_presets_ask_for_a_base() -> None:
    assert presets.sim().policy.path is None
    assert presets.real().policy.path is None
