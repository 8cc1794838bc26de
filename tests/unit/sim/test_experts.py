"""The scripted demonstrator always succeeds, also when it is pushed off its way."""

from __future__ import annotations

import numpy as np
import pytest

from pi05.sim.experts import TabletopExpert
from pi05.sim.tabletop import Tabletop
from pi05.sim.tabletop_tasks import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("push", [0.0, 0.015])
def test_the_expert_succeeds_from_everywhere(family: str, push: float) -> None:
    env = Tabletop(family, image_size=8)
    for seed in range(150):
        env.reset(seed)
        expert, rng = TabletopExpert(env), np.random.default_rng(seed)
        done = success = False
        while not done:
            action = expert.act()
            action[:2] += rng.normal(0, push, 2) if push else 0.0
            done, success = env.step(action)
        assert success, f"{env.instruction!r}, seed {seed}"
        assert env.steps <= 45


def test_the_expert_lets_go_of_what_it_should_not_hold() -> None:
    env = Tabletop("demo", image_size=8)
    env.reset(3)
    wrong = next(index for index in range(3) if index != env.goal.item)
    env.position = np.array([env.items[wrong].x, env.items[wrong].y])
    env.step(np.array([*env.position, 0.0]))
    assert env.held == wrong
    expert, done, success = TabletopExpert(env), False, False
    while not done:
        done, success = env.step(expert.act())
    assert success
