from __future__ import annotations

import numpy as np

from pi05.sim.libero.mishaps import MISS_HEIGHT, MISS_STEPS, MISSED_GRASPS, Mishaps

DOWN = np.array([0, 0, -0.5, 0, 0, 0, -1], np.float32)


def go_down(seed: int) -> list[np.ndarray]:
    """Let the hand come down from 6 cm above its grasp, 3 mm a step, then close."""
    generator, mishaps = np.random.default_rng(seed), Mishaps()
    return [mishaps.disturb(DOWN, max(0.0, 0.06 - 0.003 * step), generator) for step in range(30)]


def test_labels_stay_and_rotations_are_left_alone() -> None:
    for seed in range(20):
        executed = np.array(go_down(seed))
        assert np.abs(executed).max() <= 1
        assert not executed[:, 3:6].any()
    assert DOWN.tolist() == [0, 0, -0.5, 0, 0, 0, -1]


def test_some_first_grasps_are_missed_once_above_the_thing() -> None:
    missed = 0
    for seed in range(150):
        closed = np.flatnonzero(np.array(go_down(seed))[:, 6] > 0)
        if len(closed):
            missed += 1
            assert closed.tolist() == list(range(closed[0], closed[0] + MISS_STEPS))
            assert MISS_HEIGHT[0] - 0.004 < 0.06 - 0.003 * closed[0] < MISS_HEIGHT[1]
    assert 0.7 * MISSED_GRASPS < missed / 150 < 1.3 * MISSED_GRASPS


def test_pushes_come_now_and_then() -> None:
    pushed = []
    for seed in range(40):
        generator, mishaps = np.random.default_rng(seed), Mishaps()
        shifts = np.array([mishaps.disturb(np.zeros(7), None, generator)[:3] for _ in range(110)])
        pushed.append((np.abs(shifts) > 0.5).any(axis=1).mean())
    assert 0.02 < np.mean(pushed) < 0.12
    assert 0.1 < np.mean(np.array(pushed) == 0) < 0.8


def test_the_same_generator_gives_the_same_mishaps() -> None:
    np.testing.assert_array_equal(go_down(3), go_down(3))
    assert not np.array_equal(go_down(3), go_down(4))
