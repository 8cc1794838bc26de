"""What a rollout and a collection rely on holds for every environment there is, made-up ones included."""

from __future__ import annotations

import numpy as np
import pytest
from fake_robot import FakeExpert, FakeRobot

from pi05.sim.experts import TabletopExpert
from pi05.sim.protocol import Environment, Expert, Goal
from pi05.sim.tabletop import Tabletop

tabletop, fake = Tabletop("base"), FakeRobot()
PAIRS = pytest.mark.parametrize(
    ("environment", "expert"),
    [(tabletop, TabletopExpert(tabletop)), (fake, FakeExpert(fake))],
    ids=["tabletop", "fake robot"],
)


@PAIRS
def test_nothing_of_the_protocol_is_missing(environment: Environment, expert: Expert) -> None:
    assert isinstance(environment, Environment)
    assert isinstance(expert, Expert)
    environment.reset(3, next(iter(environment.tasks), None))
    assert all(isinstance(goal, Goal) for goal in environment.goals)


@PAIRS
def test_observations_and_actions_are_as_declared(environment: Environment, expert: Expert) -> None:
    environment.reset(3, next(iter(environment.tasks), None))
    observation = environment.observe()
    assert set(observation) == {*environment.cameras, "observation.state", "task"}
    for camera, size in environment.cameras.items():
        assert observation[camera].shape == (*size, 3)
        assert observation[camera].dtype == np.uint8
    assert observation["observation.state"].shape == (len(environment.state_names),)
    assert observation["task"] in [goal.instruction for goal in environment.goals]
    expert.reset()
    assert expert.act().shape == (len(environment.action_names),) == (len(expert.disturbance),)


@PAIRS
def test_the_same_task_and_seed_begin_the_same_episode(environment: Environment, expert: Expert) -> None:
    def beginning() -> list[np.ndarray]:
        environment.reset(5, next(iter(environment.tasks), None))
        seen = [environment.observe()["observation.state"]]
        for _ in range(3):
            environment.step(expert.act())
            seen.append(environment.observe()["observation.state"])
        return seen

    np.testing.assert_array_equal(beginning(), beginning())


@PAIRS
def test_what_was_seen_stays_as_it_was(environment: Environment, expert: Expert) -> None:
    """Collected steps are written when their episode is over."""
    environment.reset(5, next(iter(environment.tasks), None))
    seen = environment.observe()
    copies = {name: np.copy(value) for name, value in seen.items()}
    for _ in range(3):
        environment.step(expert.act())
        environment.observe()
    for name, copy in copies.items():
        np.testing.assert_array_equal(seen[name], copy)


@PAIRS
def test_a_goal_implies_itself_and_an_expert_reaches_it(environment: Environment, expert: Expert) -> None:
    environment.reset(5, next(iter(environment.tasks), None))
    assert all(goal.implies(goal) for goal in environment.goals)
    own = environment.observe()["task"]
    assert not environment.check(own)
    expert.reset()
    done = success = False
    while not done:
        done, success = environment.step(expert.act())
    assert success
    assert environment.check(own)
