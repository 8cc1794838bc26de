"""Signals: the running median is that of the statistics, steps stay in their episode, joints find their state."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from robot_sets import Recording

from pi05.check.numbers.signals import Signals
from pi05.data.range_floor import steady


def recording(lengths: list[int], seed: int = 0, dims: int = 2) -> Recording:
    rng = np.random.default_rng(seed)
    shape = (sum(lengths), dims)
    return Recording(
        state=rng.normal(size=shape).astype(np.float32),
        action=rng.normal(size=shape).astype(np.float32),
        lengths=lengths,
    )


@given(st.lists(st.integers(5, 12), min_size=1, max_size=5), st.integers(0, 99))
def test_the_running_median_is_that_of_the_statistics(lengths: list[int], seed: int) -> None:
    made = recording(lengths, seed)
    signal = Signals(made.subject()).signal("state", 1)
    expected = np.concatenate([steady(made.state[made.frames(e), 1:]) for e in range(len(lengths))])[:, 0]
    np.testing.assert_array_equal(signal.calm, expected)


def test_short_episodes_are_their_own_median() -> None:
    made = recording([3, 8, 1])
    signal = Signals(made.subject()).signal("state", 0)
    np.testing.assert_array_equal(signal.calm[:3], made.state[:3, 0])
    assert signal.calm[-1] == made.state[-1, 0]


def test_nothing_looks_over_the_edge_of_an_episode() -> None:
    made = recording([4, 6, 5])
    signals = Signals(made.subject([0, 2]))
    values = signals.signal("action", 0).values
    np.testing.assert_array_equal(values, np.concatenate([made.action[:4, 0], made.action[10:, 0]]))
    steps = signals.steps(values)
    assert steps[3] == 0
    np.testing.assert_array_equal(steps[:3], np.diff(made.action[:4, 0]))
    assert signals.place(4) == (2, 0)
    assert signals.episodes_of(np.array([1, 2, 8])) == [0, 2]
    np.testing.assert_array_equal(signals.settled, [False] * 9)


def test_episodes_are_summed_apart() -> None:
    made = recording([4, 6])
    signals, column = Signals(made.subject()), made.state[:, 0]
    np.testing.assert_array_equal(signals.lowest(column), [column[:4].min(), column[4:].min()])
    np.testing.assert_array_equal(signals.highest(column), [column[:4].max(), column[4:].max()])
    np.testing.assert_allclose(signals.means(column), [column[:4].mean(), column[4:].mean()], rtol=1e-6)


def test_joints_find_their_state_by_name_else_by_index() -> None:
    made = recording([5], dims=3)
    assert Signals(made.subject()).pairs == [(0, 0), (1, 1), (2, 2)]
    named = made.changed(state_names=["Elbow", "gripper", "waist"], action_names=["gripper", "elbow", "speed"])
    assert Signals(named.subject()).pairs == [(1, 0), (0, 1)]
    strangers = made.changed(state_names=["a", "b", "c"], action_names=["d", "e", "f"])
    assert Signals(strangers.subject()).pairs == [(0, 0), (1, 1), (2, 2)]
