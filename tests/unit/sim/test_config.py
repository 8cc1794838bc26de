from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi05.errors import ConfigError
from pi05.eval.config import EvalConfig
from pi05.settings.flags import help_text
from pi05.sim.config import MOST_SEEDS, SEEDS_PER_COLLECTION, DemonstrationChoice, EnvironmentChoice


@pytest.mark.parametrize(
    ("flag", "wrong"),
    [
        ("suite", {"suite": "libero_object"}),
        ("protocol", {"protocol": "lerobot"}),
        ("tasks", {"tasks": ("a",)}),
        ("allow", {"allow": ("mujoco-version",)}),
        ("suite", {"env": "libero"}),
        ("tasks", {"env": "libero", "suite": "libero_goal", "tasks": ("a", "a")}),
        ("seed", {"seed": -1}),
    ],
)
def test_what_has_no_meaning_is_refused(flag: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{flag} cannot be"):
        EnvironmentChoice(**wrong)


def test_openpi_s_rules_hold_where_none_are_named() -> None:
    assert EnvironmentChoice(env="libero", suite="libero_goal").protocol_name == "openpi"
    assert EnvironmentChoice(env="libero", suite="libero_goal", protocol="lerobot").protocol_name == "lerobot"


def test_the_help_of_a_class_that_extends_it_tells_what_each_setting_means() -> None:
    class Longer(EnvironmentChoice):
        """Settings with these among them."""

    assert "Which tasks of LIBERO." in help_text(Longer)


SEEDS = st.integers(0, MOST_SEEDS - 1)
ATTEMPTS = st.integers(0, SEEDS_PER_COLLECTION - 1)


@given(SEEDS, ATTEMPTS, SEEDS, ATTEMPTS, SEEDS)
def test_collections_with_other_seeds_share_no_episode_with_each_other_and_none_with_an_evaluation(
    seed: int, attempt: int, other: int, other_attempt: int, evaluation: int
) -> None:
    episode = DemonstrationChoice(seed=seed).first_seed + attempt
    assert (episode == DemonstrationChoice(seed=other).first_seed + other_attempt) is (
        (seed, attempt) == (other, other_attempt)
    )
    assert episode < EvalConfig(seed=evaluation).episode_seed(0)


def test_a_collection_in_the_benchmark_s_initial_states_begins_with_the_one_of_its_seed() -> None:
    choice = DemonstrationChoice(env="libero", suite="libero_goal", start="benchmark", seed=7)
    assert choice.first_seed == 7


def test_more_seeds_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--seed cannot be 10000"):
        DemonstrationChoice(seed=MOST_SEEDS)


LIBERO = {"env": "libero", "suite": "libero_object"}


@pytest.mark.parametrize(
    ("flag", "wrong"),
    [
        ("start", {"start": "benchmark"}),
        ("image_size", {"image_size": 128}),
        ("joint_noise", {"joint_noise": 0.0}),
        ("mixed_goals", {"mixed_goals": True}),
        ("start", {**LIBERO, "mixed_goals": True, "start": "benchmark"}),
        ("mixed_share", {**LIBERO, "mixed_share": 0.3}),
        ("mixed_share", {**LIBERO, "mixed_goals": True, "mixed_share": 0.0}),
        ("mixed_share", {**LIBERO, "mixed_goals": True, "mixed_share": 1.1}),
        ("family", {**LIBERO, "family": "base"}),
    ],
)
def test_a_flag_of_collecting_that_would_do_nothing_is_refused(flag: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{flag} cannot be"):
        DemonstrationChoice(**wrong)


def test_half_of_the_episodes_have_mixed_goals_where_no_share_is_given() -> None:
    assert DemonstrationChoice(**LIBERO).share_of_mixed_goals == 0.0
    assert DemonstrationChoice(**LIBERO, mixed_goals=True).share_of_mixed_goals == 0.5
    assert DemonstrationChoice(**LIBERO, mixed_goals=True, mixed_share=0.25).share_of_mixed_goals == 0.25
