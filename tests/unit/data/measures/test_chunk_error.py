from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest

from pi05.data.lerobot.reader import Dataset
from pi05.data.measures.chunk_error import action_moments, frames_of, in_deviations, measure_chunks


def test_an_offset_is_as_large_as_it_is_and_padding_does_not_count() -> None:
    actions = np.random.default_rng(0).normal(size=(4, 6, 3))
    predicted = actions + np.array([0.5, 0.0, -2.0])
    valid = np.ones((4, 6), bool)
    valid[1:, 4:] = False
    predicted[~valid] = 1e6
    found = measure_chunks(predicted, actions, valid, np.array([1.0, 0.0, 4.0]))
    np.testing.assert_allclose(found.error, [0.5, 0.0, 2.0], atol=1e-12)
    assert found.score == pytest.approx((0.5 + 0.5) / 2)  # the constant dimension is left out
    np.testing.assert_allclose(found.by_step, [0.5] * 6)


def test_a_step_that_no_chunk_reaches_has_no_error() -> None:
    valid = np.array([[True, True, False]])
    found = measure_chunks(np.ones((1, 3, 1)), np.zeros((1, 3, 1)), valid, np.ones(1))
    assert found.by_step[:2].tolist() == [1.0, 1.0]
    assert np.isnan(found.by_step[2])


def test_where_nothing_varies_errors_stay_in_robot_units() -> None:
    assert in_deviations(np.array([1.0, 3.0]), np.zeros(2)) == 2.0


def test_moments_are_those_of_the_episodes_without_broken_frames(tmp_path: Path) -> None:
    fake = fakes.write_dataset(tmp_path / "data", episodes=(40, 30, 20), storage="image", height=24, width=24)
    dataset = Dataset(tmp_path / "data")
    own = np.concatenate([fake.actions[:40], fake.actions[70:]]).astype(np.float64)
    assert frames_of(dataset, [0, 2]) == [*range(40), *range(70, 90)]
    mean, scale = action_moments(dataset, [0, 2])
    np.testing.assert_allclose(mean, own.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale, own.std(axis=0), rtol=1e-6)
    dataset.actions()[7, 1] = 1e5  # a glitch
    dataset.actions()[:, 2] = 3.0
    _, glitched = action_moments(dataset, [0, 2])
    assert glitched[1] < 2 * scale[1]
    assert glitched[2] == 0
