from __future__ import annotations

from typing import Any

import pytest

from pi05.errors import ConfigError
from pi05.eval.config import EvalConfig, EvalPolicyConfig


@pytest.mark.parametrize(
    "wrong", [{"episodes": 0}, {"num_envs": 0}, {"seed": -1}, {"films": -1}, {"episodes": 100_001}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(wrong))}"):
        EvalConfig(**wrong)


def test_evaluations_with_other_seeds_share_no_layout() -> None:
    first = {EvalConfig(seed=0).episode_seed(i) for i in range(1000)}
    assert not first & {EvalConfig(seed=1).episode_seed(i) for i in range(1000)}


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"n_action_steps": 0}, {"num_inference_steps": 0}])
def test_impossible_settings_of_the_policy_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--policy.{next(iter(wrong))}"):
        EvalPolicyConfig(**wrong)
