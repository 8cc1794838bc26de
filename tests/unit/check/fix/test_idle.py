"""What counts as an idle end."""

from __future__ import annotations

import numpy as np
import pytest

from pi05.check.fix.idle import idle_frames, pictures_rest, range_of


def motion(before: int, moving: int, after: int) -> np.ndarray:
    path = np.linspace(0, 1, moving)[:, None] * np.array([1.0, 2.0])
    return np.concatenate([np.repeat(path[:1], before, 0), path, np.repeat(path[-1:], after, 0)]).astype(np.float32)


@pytest.mark.parametrize(
    ("before", "after", "cut"), [(0, 0, (0, 0)), (5, 5, (0, 0)), (19, 0, (15, 0)), (0, 30, (0, 26)), (40, 40, (36, 36))]
)
def test_half_a_second_stays(before: int, after: int, cut: tuple[int, int]) -> None:
    values = motion(before, 20, after)  # the first and last frame of the motion rest, too
    assert idle_frames(values, values, np.array([1.0, 2.0, 1.0, 2.0]), fps=10) == cut


def test_noise_is_rest_and_slow_motion_is_none() -> None:
    values = motion(40, 20, 0)
    range_ = np.array([1.0, 2.0, 1.0, 2.0])
    noisy = values + np.random.default_rng(0).uniform(-2e-4, 2e-4, values.shape).astype(np.float32)
    assert idle_frames(noisy, values, range_, fps=10) == (36, 0)
    slow = values.copy()
    slow[:40, 1] = np.linspace(-0.5, 0, 40)
    assert idle_frames(slow, values, range_, fps=10) == (0, 0)


def test_an_episode_that_never_moves_stays_whole() -> None:
    still = np.ones((50, 2), np.float32)
    assert idle_frames(still, still, np.ones(4), fps=10) == (0, 0)


def test_pictures_decide() -> None:
    still = np.full((480, 640, 3), 100, np.uint8)
    noisy = [
        np.clip(still + np.random.default_rng(k).normal(0, 2, still.shape), 0, 255).astype(np.uint8) for k in (1, 2)
    ]
    assert pictures_rest(lambda k: noisy[k % 2], 0, 20)
    passing = still.copy()
    passing[160:320, 240:400] = 220
    assert not pictures_rest(lambda k: passing if k == 10 else still, 0, 20)


def test_ranges_over_parts() -> None:
    parts = [np.array([[0.0, 5.0], [1.0, 6.0]]), np.array([[-2.0, 5.5], [0.0, 5.5]])]
    np.testing.assert_array_equal(range_of(parts), [3.0, 1.0])
    with pytest.raises(ValueError, match="no frames"):
        range_of([])
