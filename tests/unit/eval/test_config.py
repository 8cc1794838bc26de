from __future__ import annotations

from typing import Any

import pytest

from pi05.errors import ConfigError
from pi05.eval.config import EvalConfig, EvalPolicyConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"episodes": 0},
        {"num_envs": 0},
        {"seed": -1},
        {"films": -1},
        {"episodes": 100_001},
        {"workers": -1},
        {"timeout_s": 0.0},
        {"max_steps": 0},
        {"episodes_per_task": 0},
        {"episodes_per_task": 5, "episodes": 5},
        {"half_width": 0.05},
        {"half_width": 0.6, "episodes": "auto"},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(wrong))}"):
        EvalConfig(**wrong)


def test_evaluations_with_other_seeds_share_no_layout() -> None:
    first, second = EvalConfig(seed=0), EvalConfig(seed=1)
    assert not {first.episode_seed(i) for i in range(1000)} & {second.episode_seed(i) for i in range(1000)}


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"n_action_steps": 0}, {"num_inference_steps": 0}])
def test_impossible_settings_of_the_policy_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--policy.{next(iter(wrong))}"):
        EvalPolicyConfig(**wrong)


def test_libero_s_episodes_are_numbered_and_run_in_processes() -> None:
    libero = EvalConfig(env="libero", suite="libero_goal", seed=3)
    assert [libero.episode_seed(i) for i in (0, 7)] == [0, 7]
    assert (libero.processes, EvalConfig().processes, EvalConfig(workers=2).processes) == (None, 0, 2)
