"""Pieces of a dimension, and which episodes have values outside of a range."""

from __future__ import annotations

import numpy as np
import pytest
from episodes_in_memory import random_episodes, written_out

from pi05.data.training_steps import read_steps
from pi05.errors import DataError


@pytest.mark.parametrize("mask", [None, [True, False, True]])
def test_the_pieces_are_every_step_of_every_chunk(mask: list[bool] | None) -> None:
    episodes = random_episodes([1, 5, 40])
    relative = None if mask is None else np.array(mask)
    steps = read_steps(episodes, [0, 1, 2], 7, relative)
    expected = written_out(episodes, 7, relative)
    for i in range(3):
        parts = [np.repeat(v, 1 if w is None else w.astype(int)) for v, w in steps.pieces("action", i)]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(expected[:, i]).astype(np.float32))


@pytest.mark.parametrize("relative", [False, True])
def test_each_episode_has_its_spread(relative: bool) -> None:
    episodes = random_episodes([10, 10, 10, 2])
    for state, action in episodes.parts:
        state[:] = 0
        action[:, 0] = 0
    episodes.parts[1][1][9, 0] = 5
    episodes.parts[3][1][:, 0] = -5, 1
    steps = read_steps(episodes, range(4), 3, np.array([relative, False, False]))
    assert steps.episode_spreads("action", 0).tolist() == [0, 5, 0, 6]
    assert steps.episode_spreads("state", 0).tolist() == [0, 0, 0, 0]


def test_no_episode_is_an_error() -> None:
    with pytest.raises(DataError, match="no training episode"):
        read_steps(random_episodes([3]), [], 3, None)
