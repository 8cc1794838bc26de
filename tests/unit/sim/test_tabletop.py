"""The table: deterministic, with physics that a policy must respect and goals that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi05.errors import ConfigError
from pi05.sim.experts import TabletopExpert
from pi05.sim.tabletop import MAX_STEP, TABLE_HALF, Tabletop
from pi05.sim.tabletop_tasks import COLOURS, FAMILIES

SEEDS = st.integers(0, 10**12)


def solve(env: Tabletop, seed: int, instruction: str | None = None) -> bool:
    env.reset(seed, instruction)
    expert, done, success = TabletopExpert(env), False, False
    while not done:
        done, success = env.step(expert.act())
    return success


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_decides_everything(family: str) -> None:
    first, second, other = (Tabletop(family) for _ in range(3))
    for env, seed in ((first, 3), (second, 3), (other, 4)):
        env.reset(seed)
    a, b, c = first.observe(), second.observe(), other.observe()
    for key in ("observation.images.scene", "observation.images.wrist", "observation.state"):
        np.testing.assert_array_equal(a[key], b[key])
    assert a["task"] == b["task"]
    assert not np.array_equal(a["observation.images.scene"], c["observation.images.scene"])
    command = np.array([0.1, -0.1, 1.0])
    first.step(command)
    second.step(command)
    np.testing.assert_array_equal(first.observe()["observation.state"], second.observe()["observation.state"])


def test_the_families_share_no_colour_no_shape_and_no_verb() -> None:
    base, demo = FAMILIES["base"], FAMILIES["demo"]
    assert not {*base.colours, *base.items, *base.targets} & {*demo.colours, *demo.items, *demo.targets}
    verbs = [{text.split()[0] for text in (*family.put, *family.pick, *family.side)} for family in (base, demo)]
    assert not verbs[0] & verbs[1]


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, family=st.sampled_from(sorted(FAMILIES)))
def test_layouts_can_be_told_apart_and_reached(seed: int, family: str) -> None:
    env = Tabletop(family)
    env.reset(seed)
    for things in (env.items, env.targets):
        assert len({thing.colour for thing in things}) == len(things)
    places = np.array([[thing.x, thing.y] for thing in (*env.items, *env.targets)])
    assert np.abs(places).max() <= 0.2
    gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.eye(len(places))
    assert gaps.min() >= 0.1
    assert env.instruction in [goal.instruction for goal in env.goals]
    assert not env.check(env.instruction)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, x=st.floats(-1, 1), y=st.floats(-1, 1))
def test_the_arm_is_slow_and_stays_over_the_table(seed: int, x: float, y: float) -> None:
    env = Tabletop()
    env.reset(seed)
    for _ in range(30):
        before = env.position
        env.step(np.array([x, y, 1.0]))
        assert np.hypot(*(env.position - before)) <= MAX_STEP + 1e-12
        assert np.abs(env.position).max() <= TABLE_HALF


def test_only_what_lies_under_the_gripper_is_grasped_and_it_travels_along() -> None:
    env = Tabletop("demo")
    env.reset(0)
    item = env.items[1]
    env.position = np.array([item.x + 0.05, item.y])
    env.step(np.array([*env.position, 0.0]))
    assert env.held is None
    env.step(np.array([*env.position, 1.0]))
    env.position = np.array([item.x + 0.01, item.y])
    env.step(np.array([*env.position, 0.0]))
    assert env.held == 1
    env.step(np.array([0.0, 0.0, 0.0]))
    assert (env.items[1].x, env.items[1].y) == pytest.approx(tuple(env.position))
    env.step(np.array([0.2, 0.2, 1.0]))
    dropped = (env.items[1].x, env.items[1].y)
    env.step(np.array([-0.2, -0.2, 1.0]))
    assert (env.items[1].x, env.items[1].y) == dropped


def test_a_closed_gripper_does_not_pick_up_what_it_passes_over() -> None:
    env = Tabletop("demo")
    env.reset(0)
    env.position = np.array([-0.25, -0.25])
    env.step(np.array([-0.25, -0.25, 0.0]))
    env.position = np.array([env.items[0].x, env.items[0].y])
    env.step(np.array([*env.position, 0.0]))
    assert env.held is None


def test_another_item_or_another_target_is_no_success() -> None:
    env = Tabletop("demo")
    env.reset(5)
    asked = env.goal
    for instruction in [goal.instruction for goal in env.goals]:
        solved = Tabletop("demo")
        assert solve(solved, 5, instruction)
        assert solved.check(instruction)
        assert solved.check(asked.instruction) == (instruction == asked.instruction)


def test_success_needs_the_item_to_be_let_go() -> None:
    env = Tabletop("demo")
    env.reset(1)
    goal = env.goal
    assert goal.target is not None
    target = env.targets[goal.target]
    env.position = np.array([env.items[goal.item].x, env.items[goal.item].y])
    env.step(np.array([*env.position, 0.0]))
    env.position = np.array([target.x, target.y])
    assert not env.step(np.array([*env.position, 0.0]))[1]
    assert env.step(np.array([*env.position, 1.0]))[1]


def test_an_episode_ends_after_its_last_step() -> None:
    env = Tabletop("demo", max_steps=7)
    env.reset(0)
    ends = [env.step(np.array([0.0, 0.0, 1.0]))[0] for _ in range(7)]
    assert ends == [False] * 6 + [True]


def test_the_colour_in_the_instruction_is_the_colour_in_the_picture() -> None:
    env = Tabletop("demo")
    for seed in range(20):
        env.reset(seed)
        env.position = np.array([-0.24, -0.24])
        picture = env.render(480)
        for thing in env.items:
            column = int((thing.x + TABLE_HALF) / (2 * TABLE_HALF) * 480)
            row = int((TABLE_HALF - thing.y) / (2 * TABLE_HALF) * 480)
            seen = picture[row, column].astype(float) / env.light
            nearest = min(COLOURS, key=lambda name: float(np.abs(np.array(COLOURS[name]) - seen).sum()))
            assert nearest == thing.colour


def test_the_wrist_camera_follows_the_gripper() -> None:
    env = Tabletop("demo")
    env.reset(2)
    item = env.items[0]
    env.position = np.array([item.x, item.y])
    centre = env.render(48, wrist=True)[20:28, 20:28].reshape(-1, 3).mean(axis=0) / env.light
    assert np.abs(centre - np.array(COLOURS[item.colour])).max() < 30


@pytest.mark.parametrize("action", [np.zeros(2), np.array([0.0, np.nan, 1.0])])
def test_what_is_no_action_is_refused(action: np.ndarray) -> None:
    env = Tabletop()
    env.reset(0)
    with pytest.raises(ValueError, match="3 finite numbers"):
        env.step(action)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="kitchen"):
        Tabletop("kitchen")
    env = Tabletop("demo")
    env.reset(0)
    with pytest.raises(ValueError, match="not possible in this layout"):
        env.check("fly to the moon")
