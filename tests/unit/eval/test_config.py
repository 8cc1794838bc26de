from __future__ import annotations

from typing import Any

import pytest

from pi05.errors import ConfigError
from pi05.eval.config import EvalConfig, EvalDatasetConfig
from pi05.policy_choice import ChosenPolicy
from pi05.settings.schema import from_plain


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


DATA = EvalDatasetConfig(root="data")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"episodes": 3}, r"--episodes='\[3\]'"),
        ({"episodes": "auto"}, "held-out, all, or numbers"),
        ({"episodes": ()}, "at least one"),
        ({"episodes": (3, 3)}, "distinct"),
        ({"episodes": (-1,)}, "from 0 up"),
        ({"draws": 101}, "0 to 100"),
        ({"sensitivity_frames": -1}, "0 or more"),
        ({"batch_size": 0}, "1 or more"),
        ({"seed": -1}, "0 or more"),
        ({"env": "libero"}, "it is for a simulator"),
        ({"films": 3}, "it is for a simulator"),
        ({"resume": True}, "it is for a simulator"),
        ({"compare": "a", "policy": ChosenPolicy(path="b")}, "without --policy.path"),
    ],
)
def test_recorded_episodes_take_no_settings_of_a_simulator(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=rf"--{next(iter(wrong))}(.|\n)*{match}"):
        EvalConfig(dataset=DATA, **wrong)


@pytest.mark.parametrize("wrong", [{"episodes": "held-out"}, {"episodes": (3,)}, {"draws": 2}, {"batch_size": 4}])
def test_a_simulator_takes_no_settings_of_recorded_episodes(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"add --dataset\.root=DATA"):
        EvalConfig(**wrong)


def test_settings_of_recorded_episodes_survive_their_file() -> None:
    config = EvalConfig(dataset=EvalDatasetConfig(repo_id="me/data"), episodes=(3, 17), allow=("timestamps",), seed=3)
    assert from_plain(EvalConfig, config.to_dict()) == config
    assert config.dataset.place == "me/data"
    with pytest.raises(ConfigError, match="not both"):
        EvalDatasetConfig(repo_id="me/data", root="data")


def test_libero_s_episodes_are_numbered_and_run_in_processes() -> None:
    libero = EvalConfig(env="libero", suite="libero_goal", seed=3)
    assert [libero.episode_seed(i) for i in (0, 7)] == [0, 7]
    assert (libero.processes, EvalConfig().processes, EvalConfig(workers=2).processes) == (None, 0, 2)
