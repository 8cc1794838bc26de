"""Where a hand takes a block, a bowl, or nothing; without a simulator."""

from __future__ import annotations

import numpy as np
import pytest

from pi05.sim.libero.grasps import HAND_HALF_LENGTH, choose_grasp
from pi05.sim.libero.shapes import Points, fill_box

ALONG_Y = np.array([0.0, 1.0])
NOTHING = np.zeros((0, 3))


def block(x: float, y: float, half: tuple[float, float, float]) -> Points:
    """A solid block that stands on the table."""
    return fill_box(np.array(half)) + np.array([x, y, half[2]])


def bowl(radius: float = 0.05, height: float = 0.05) -> Points:
    """Thin walls in a ring."""
    walls = []
    for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
        wall = fill_box(np.array([0.004, 0.008, height / 2])) + np.array([radius, 0, height / 2])
        cosine, sine = np.cos(angle), np.sin(angle)
        walls.append(wall @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]))
    return np.concatenate(walls)


def test_a_block_is_taken_in_its_middle_without_turning() -> None:
    grasp = choose_grasp(block(0.1, -0.2, (0.03, 0.02, 0.05)), NOTHING, ALONG_Y, 0.0)
    assert grasp is not None
    assert grasp.turn == 0
    np.testing.assert_allclose([grasp.x, grasp.y], [0.1, -0.2], atol=0.005)
    assert grasp.z == pytest.approx(0.1 - 0.026)


def test_a_flat_block_is_taken_as_low_as_the_table_allows() -> None:
    grasp = choose_grasp(block(0, 0, (0.03, 0.02, 0.009)), NOTHING, ALONG_Y, 0.0)
    assert grasp is not None
    assert grasp.z == pytest.approx(0.014)


def test_a_block_that_is_too_wide_one_way_makes_the_hand_turn() -> None:
    grasp = choose_grasp(block(0, 0, (0.02, 0.05, 0.03)), NOTHING, ALONG_Y, 0.0)
    assert grasp is not None
    assert abs(grasp.turn) >= np.deg2rad(45)
    np.testing.assert_allclose([grasp.x, grasp.y], [0, 0], atol=0.012)


def test_a_bowl_is_taken_by_its_rim() -> None:
    grasp = choose_grasp(bowl(), NOTHING, ALONG_Y, 0.0)
    assert grasp is not None
    assert grasp.turn == 0
    assert np.hypot(grasp.x, grasp.y) == pytest.approx(0.05, abs=0.008)
    assert abs(grasp.y) > abs(grasp.x)  # the fingers close through the wall, not along it


def test_what_is_too_large_cannot_be_taken() -> None:
    assert choose_grasp(block(0, 0, (0.06, 0.06, 0.03)), NOTHING, ALONG_Y, 0.0) is None


def test_a_tall_neighbour_makes_the_hand_turn_or_go_aside() -> None:
    thing = block(0, 0, (0.02, 0.02, 0.01))
    wall = block(0, 0.09, (0.05, 0.01, 0.15))
    free, beside = choose_grasp(thing, NOTHING, ALONG_Y, 0.0), choose_grasp(thing, wall, ALONG_Y, 0.0)
    assert free is not None
    assert beside is not None
    assert free.turn == 0
    along = np.array([-np.sin(beside.turn), np.cos(beside.turn)])
    ends = beside.place + np.outer([-HAND_HALF_LENGTH, HAND_HALF_LENGTH], along)
    assert ends[:, 1].max() < 0.08
    between = np.concatenate([wall, wall * [1, -1, 1]])
    assert abs(getattr(choose_grasp(thing, between, ALONG_Y, 0.0), "turn", 0.0)) > np.deg2rad(30)


def test_a_grasp_that_has_failed_is_not_the_next_choice() -> None:
    thing = block(0, 0, (0.06, 0.02, 0.02))
    first = choose_grasp(thing, NOTHING, ALONG_Y, 0.0)
    assert first is not None
    second = choose_grasp(thing, NOTHING, ALONG_Y, 0.0, [first])
    assert second is not None
    assert np.hypot(*(second.place - first.place)) >= 0.016
