from __future__ import annotations

import numpy as np
import pytest
from fake_robot import FakeExpert, FakeRobot

from pi05.errors import EvaluationError
from pi05.sim.episodes import attempt, demonstrate, nth_episode


def test_tasks_take_turns_and_each_has_all_seeds() -> None:
    assert [nth_episode((), index) for index in range(3)] == [(None, 0), (None, 1), (None, 2)]
    assert [nth_episode("ab", index) for index in range(5)] == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]


def test_half_of_the_commands_are_disturbed_where_the_expert_allows_it() -> None:
    executed: list[np.ndarray] = []

    class Recorder(FakeRobot):
        def step(self, action: np.ndarray) -> tuple[bool, bool]:
            executed.append(action)
            return super().step(action)

    robot = Recorder()
    expert = FakeExpert(robot)
    steps = [step for seed in range(60) for step in demonstrate(robot, expert, seed, "left_1")]
    wanted = [step.action for step in steps]
    assert expert.resets == 60
    np.testing.assert_array_equal(executed, [step.executed for step in steps])
    shifts = np.array(executed) - np.array(wanted)
    moved = np.array(expert.disturbance) > 0
    assert not shifts[:, ~moved].any()
    disturbed = shifts[:, moved].all(axis=1)
    assert 0.4 < disturbed.mean() < 0.6
    assert not shifts[~disturbed].any()
    np.testing.assert_allclose(shifts[disturbed][:, moved].std(axis=0), [0.1, 0.2], rtol=0.3)


def test_a_failing_expert_is_an_error() -> None:
    class Idle(FakeExpert):
        def act(self) -> np.ndarray:
            return np.zeros(7, np.float32)

    robot = FakeRobot()
    with pytest.raises(EvaluationError, match=r"failed its own task\n.*within 12 steps\n.*'turn right', seed 4"):
        list(demonstrate(robot, Idle(robot), 4, "right_1"))
    failed = attempt(robot, Idle(robot), 4, "right_1", look=False)
    assert (failed.success, failed.start, len(failed.steps)) == (False, None, 12)
    assert not any(step.observation for step in failed.steps)
