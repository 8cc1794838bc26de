"""One environment and its episode; what rollouts make of it is in test_rollout.py."""

from __future__ import annotations

import numpy as np
import pytest
from fake_robot import FakeRobot

from pi05.eval.episode import EpisodePlan
from pi05.eval.places.place import Place, facts_of, fingerprint
from pi05.sim.tabletop import Tabletop

STAY = np.zeros((5, 7))


def test_an_episode_goes_on_until_its_limit_and_tells_its_time() -> None:
    robot = FakeRobot()
    place = Place(robot)
    turn = place.begin(EpisodePlan(index=3, seed=4, task="left_1", max_steps=7))
    assert turn.observation is not None
    assert turn.observation["task"] == "turn left"
    assert place.execute(STAY).result is None
    end = place.execute(STAY)
    assert end.result is not None
    assert (end.result.outcome, end.result.steps, end.result.task, end.result.index) == ("failure", 7, "left_1", 3)
    assert (end.spent.steps, end.spent.looks) == (7, 2)
    assert end.spent.physics_s > 0 < end.spent.look_s


@pytest.mark.parametrize(("film", "frames", "stride"), [("steps", 13, 1), ("looks", 4, 5), (None, 0, 1)])
def test_a_film_is_of_steps_or_of_looks(film: str, frames: int, stride: int) -> None:
    place = Place(FakeRobot())
    turn = place.begin(EpisodePlan(index=0, seed=0, task="left_1", film=film))  # type: ignore[arg-type]
    while turn.result is None:
        turn = place.execute(STAY)
    assert (len(turn.frames), turn.stride) == (frames, stride)
    if film == "looks":
        assert turn.frames[0].shape == (128, 128, 3)


def test_the_same_beginning_has_the_same_fingerprint() -> None:
    table = Tabletop("demo")
    found = []
    for seed in (1, 2, 1):
        table.reset(seed)
        found.append(fingerprint(table.observe()))
    assert found[0] == found[2] != found[1]
    assert len(found[0]) == 16
    assert fingerprint({**table.observe(), "something": object()}) == found[0]


def test_facts_are_what_the_environment_says() -> None:
    facts = facts_of(FakeRobot())
    assert (facts.fps, facts.max_steps, facts.tasks, facts.notes) == (20.0, 12, ("left_1", "right_1"), ())
    assert facts.cameras["observation.images.front"] == (24, 32)
