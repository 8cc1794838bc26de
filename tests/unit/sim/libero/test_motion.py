from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi05.sim.libero.motion import CLOSE, OPEN, TURN_TOLERANCE, still, toward, turn_between

metres = st.floats(-1, 1)
angles = st.floats(-np.pi, np.pi)


@given(x=metres, y=metres, z=metres, turn=angles, fastest=st.floats(0.1, 1))
def test_actions_are_possible_and_lead_straight_to_the_goal(
    x: float, y: float, z: float, turn: float, fastest: float
) -> None:
    error = np.array([x, y, z])
    action = toward(error, turn, CLOSE, fastest)
    assert np.abs(action).max() <= 1
    assert np.abs(action[:3]).max() <= fastest + 1e-12
    np.testing.assert_allclose(np.cross(action[:3], error), 0, atol=1e-9)
    assert action[:3] @ error >= 0
    assert (action[3], action[4], action[6]) == (0, 0, CLOSE)


def test_small_turns_are_exactly_nothing() -> None:
    assert toward(np.zeros(3), 0.99 * TURN_TOLERANCE)[5] == 0
    assert toward(np.zeros(3), 1.01 * TURN_TOLERANCE)[5] > 0.05
    assert toward(np.zeros(3), -2.0)[5] == -0.5
    assert still(OPEN).tolist() == [0, 0, 0, 0, 0, 0, -1]


@given(start=angles, turn=st.floats(-1.5, 1.5), opposite=st.booleans())
def test_a_hand_turned_by_half_a_circle_is_the_same_hand(start: float, turn: float, opposite: bool) -> None:
    end = start + turn + (np.pi if opposite else 0)
    found = turn_between(np.array([np.cos(start), np.sin(start)]), np.array([np.cos(end), np.sin(end)]))
    assert found == pytest.approx(turn, abs=1e-6)
