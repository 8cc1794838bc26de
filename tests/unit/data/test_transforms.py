"""Transforms: round trips, the bins' edges, prompts of all formats, the resize's geometry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pi05.data.statistics import DimStats
from pi05.data.transforms import NORMALIZATION_MODES, NormalizationMode, Normalizer, absolute, relative, relative_mask
from pi05.errors import DataError

numbers = st.floats(-1e3, 1e3)


def stats_of(low: np.ndarray, width: np.ndarray) -> DimStats:
    high = low + width
    return DimStats(mean=(low + high) / 2, std=width / 4, min=low, max=high, q01=low, q99=high, count=9)


@given(
    values=npst.arrays(np.float64, (5, 3), elements=numbers),
    low=npst.arrays(np.float64, 3, elements=numbers),
    width=npst.arrays(np.float64, 3, elements=st.floats(1e-4, 1e3)),
    mode=st.sampled_from(NORMALIZATION_MODES),
)
def test_unnormalise_undoes_normalise(values: np.ndarray, low: np.ndarray, width: np.ndarray, mode: str) -> None:
    normalizer = Normalizer(stats_of(low, width), mode)
    np.testing.assert_allclose(normalizer.unnormalize(normalizer.normalize(values)), values, rtol=1e-9, atol=1e-9)


def test_normalised_range() -> None:
    stats = stats_of(np.array([-2.0, 0.0]), np.array([4.0, 1.0]))
    quantiles = Normalizer(stats, "QUANTILES")
    np.testing.assert_allclose(quantiles.normalize(stats.q01), [-1, -1])
    np.testing.assert_allclose(quantiles.normalize(stats.q99), [1, 1], atol=3e-6)
    np.testing.assert_allclose(quantiles.normalize(stats.q99 + 4 * (stats.q99 - stats.q01)), [9, 9], atol=3e-5)
    np.testing.assert_allclose(Normalizer(stats, "MEAN_STD").normalize(stats.mean + stats.std), [1, 1], atol=1e-5)


@given(
    actions=npst.arrays(np.float64, (2, 4, 3), elements=numbers),
    state=npst.arrays(np.float64, (2, 5), elements=numbers),
    mask=npst.arrays(np.bool_, 3),
)
def test_absolute_undoes_relative(actions: np.ndarray, state: np.ndarray, mask: np.ndarray) -> None:
    moved = relative(actions, state, mask)
    np.testing.assert_allclose(absolute(moved, state, mask), actions, atol=1e-9)
    np.testing.assert_array_equal(moved[..., ~mask], actions[..., ~mask])
    np.testing.assert_array_equal(moved[..., mask], (actions - state[:, None, :3])[..., mask])


def test_relative_with_a_state_shorter_than_the_action() -> None:
    moved = relative(np.ones((4, 3)), np.full(2, 0.25), np.array([True, True, False]))
    np.testing.assert_array_equal(moved, np.tile([0.75, 0.75, 1.0], (4, 1)))


def test_relative_mask_excludes_by_part_of_the_name() -> None:
    names = ["Left_Gripper.pos", "shoulder", "right_gripper", "wrist"]
    assert relative_mask(names, ["gripper"]).tolist() == [False, True, False, True]
    assert relative_mask(names, []).tolist() == [True] * 4
    with pytest.raises(DataError, match="'jaw'"):
        relative_mask(names, ["gripper", "jaw"])


LEROBOT_ROUND_TRIP = 1e-5
"""Absolute, for values of a few units; LeRobot's formula computes in float32."""


@given(
    values=npst.arrays(np.float32, (4, 2), elements=st.floats(-3, 3, width=32)),
    low=npst.arrays(np.float64, 2, elements=st.floats(-2, 2)),
    width=npst.arrays(np.float64, 2, elements=st.floats(0.125, 4)),
    mode=st.sampled_from(["QUANTILES", "MEAN_STD", "IDENTITY"]),
)
def test_lerobots_formula_and_its_inverse(
    values: np.ndarray, low: np.ndarray, width: np.ndarray, mode: NormalizationMode
) -> None:
    normalizer = Normalizer(stats_of(low, width), mode, "lerobot")
    normalized = normalizer.normalize(values)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalizer.unnormalize(normalized), values, atol=LEROBOT_ROUND_TRIP)


def test_the_formulas_differ_by_their_eps() -> None:
    """By hand, in float32 and in LeRobot's order of operations: nothing is added to the range."""
    low, high, x = np.float32(0.1), np.float32(0.7), np.float32(0.3)
    stats = DimStats(q01=np.array([low], np.float64), q99=np.array([high], np.float64), count=1)
    ours = Normalizer(stats, "QUANTILES", "lerobot")
    assert ours.normalize(np.array([x]))[0] == np.float32(2) * (x - low) / (high - low) - np.float32(1)
    assert ours.unnormalize(np.array([x]))[0] == (x + np.float32(1)) * (high - low) / np.float32(2) + low
    openpi = Normalizer(stats, "QUANTILES").normalize(np.array([0.7]))[0]
    assert openpi < 1 - 1e-6 < ours.normalize(np.array([high]))[0]


def test_lerobots_corner_cases() -> None:
    flat = DimStats(q01=np.ones(1), q99=np.ones(1), mean=np.zeros(1), std=np.zeros(1), count=1)
    quantiles = Normalizer(flat, "QUANTILES", "lerobot")
    assert quantiles.normalize(np.array([1.0]))[0] == -1, "a range of zero divides by 1e-8"
    assert quantiles.normalize(np.array([1.001]))[0] > 1e5
    deviation = Normalizer(flat, "MEAN_STD", "lerobot")
    assert deviation.normalize(np.array([1.0]))[0] == np.float32(1e8)
    assert deviation.unnormalize(np.array([5.0]))[0] == 0, "the inverse leaves the 1e-8 out"


def test_a_mode_needs_its_statistics() -> None:
    stats = DimStats(q01=np.zeros(1), q99=np.ones(1), count=1)
    with pytest.raises(DataError, match="lack mean"):
        Normalizer(stats, "MEAN_STD")
    Normalizer(stats, "IDENTITY")
