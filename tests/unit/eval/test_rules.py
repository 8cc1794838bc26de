from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig
from pi05.eval.places.place import EnvironmentFacts
from pi05.eval.rules import rules_of
from pi05.policy_choice import ChosenPolicy

TABLE = EnvironmentFacts(fps=10.0, max_steps=60, cameras={}, action_names=("x",), tasks=())
SPATIAL = replace(TABLE, fps=20.0, max_steps=220, tasks=tuple(f"task_{i}" for i in range(10)))


def libero(**settings: Any) -> EvalConfig:
    return EvalConfig(**{"env": "libero", "suite": "libero_spatial", **settings})


def test_without_a_protocol_the_policy_s_own_number_of_actions_holds() -> None:
    rules = rules_of(EvalConfig(), TABLE, 4)
    assert (rules.episodes, rules.n_action_steps, rules.max_steps, rules.seed) == (50, 4, 60, 0)
    assert (rules.protocol, rules.departures, rules.half_width) == (None, (), None)
    assert rules.blocks() == [range(50)]
    chosen = EvalConfig(policy=ChosenPolicy(n_action_steps=2), max_steps=30, seed=3, episodes=7)
    rules = rules_of(chosen, TABLE, 4)
    assert (rules.episodes, rules.n_action_steps, rules.max_steps, rules.seed) == (7, 2, 30, 3)


def test_a_protocol_sets_everything_whatever_the_policy_would_do() -> None:
    rules = rules_of(libero(), SPATIAL, 25)
    assert (rules.episodes, rules.n_action_steps, rules.max_steps, rules.seed) == (500, 5, 220, 7)
    assert (rules.protocol, rules.departures) == ("openpi", ())
    rules = rules_of(libero(protocol="lerobot"), replace(SPATIAL, max_steps=280), 25)
    assert (rules.episodes, rules.n_action_steps, rules.max_steps, rules.seed) == (100, 10, 280, 1000)
    assert (rules.protocol, rules.departures) == ("lerobot", ())


def test_a_flag_beside_a_protocol_wins_and_is_told() -> None:
    config = libero(
        policy=ChosenPolicy(n_action_steps=10), seed=3, episodes_per_task=2, max_steps=100, tasks=("task_0",)
    )
    rules = rules_of(config, SPATIAL, 25)
    assert (rules.episodes, rules.n_action_steps, rules.max_steps, rules.seed) == (20, 10, 100, 3)
    assert rules.departures == (
        "10 actions of a chunk before the policy looks again instead of 5",
        "100 steps of an episode instead of 220",
        "seed 3 instead of 7",
        "20 episodes instead of 500",
        "1 tasks of the suite",
    )
    same = libero(policy=ChosenPolicy(n_action_steps=5), seed=7, episodes_per_task=50)
    assert rules_of(same, SPATIAL, 25).departures == ()


def test_looks_at_the_interval_are_after_whole_rounds_of_the_tasks() -> None:
    rules = rules_of(EvalConfig(episodes="auto"), TABLE, 4)
    assert rules.half_width == 0.05
    assert rules.blocks()[:2] == [range(50), range(50, 100)]
    assert rules.episodes == 100_000
    three = replace(SPATIAL, tasks=SPATIAL.tasks[:3])
    rules = rules_of(libero(episodes="auto", half_width=0.02), three, 4)
    assert (rules.half_width, rules.block, rules.episodes) == (0.02, 51, 150)
    assert rules.blocks()[-1] == range(102, 150)
    assert "as many episodes as a half width of 0.02 needs, instead of 150" in rules.departures


def test_more_steps_than_the_environment_has_are_refused() -> None:
    with pytest.raises(EvaluationError, match="--max_steps of at most 60"):
        rules_of(EvalConfig(max_steps=61), TABLE, 4)
