"""Statistics for another program: its formula with them is our formula with ours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pi05.checkpoint.foreign_statistics import (
    COARSE,
    FIELDS,
    half_ranges,
    lerobot_statistics,
    openpi_statistics,
    rounding,
)
from pi05.data.statistics import DimStats
from pi05.data.transforms import NORMALIZATION_MODES, Normalizer

numbers = hnp.arrays(np.float64, 3, elements=st.floats(-5, 5))
widths = hnp.arrays(np.float64, 3, elements=st.floats(1e-4, 10))


columns = st.tuples(numbers, widths, widths)


def statistics(drawn: tuple[np.ndarray, ...]) -> DimStats:
    low, width, std = drawn
    high = low + width
    return DimStats(mean=low + width / 3, std=std, min=low - 1, max=high + 1, q01=low, q99=high, count=9)


def openpi_formula(values: dict[str, np.ndarray], raw: np.ndarray) -> np.ndarray:
    """Return what openpi `transforms.py` computes."""
    return (raw - values["q01"]) / (values["q99"] - values["q01"] + 1e-6) * 2.0 - 1.0


def lerobot_formula(values: dict[str, np.ndarray], raw: np.ndarray, mode: str) -> np.ndarray:
    """Return what LeRobot `normalize_processor.py` computes, in float64."""
    if mode == "MEAN_STD":
        return (raw - values["mean"]) / (values["std"] + 1e-8)
    return 2.0 * (raw - values["q01"]) / (values["q99"] - values["q01"]) - 1.0 if mode == "QUANTILES" else raw


@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
@given(drawn=columns, raw=numbers)
def test_openpi_gets_the_same_values_from_either_formula(mode, drawn, raw: np.ndarray) -> None:
    stats = statistics(drawn)
    ours = Normalizer(stats, mode, "openpi").normalize(raw)
    theirs = openpi_formula(openpi_statistics(stats, mode, "openpi"), raw)
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-9 * float(np.abs(raw).max() / 1e-4 + 1))
    exact = lerobot_formula({name: stats.value(name) for name in FIELDS}, raw, mode)
    theirs = openpi_formula(openpi_statistics(stats, mode, "lerobot"), raw)
    # LeRobot's normalisation by std + 1e-8 is not the inverse of its unnormalisation by std; the latter is kept
    np.testing.assert_allclose(theirs, exact, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
@given(drawn=columns, raw=numbers)
def test_lerobot_gets_the_same_values(mode, drawn, raw: np.ndarray) -> None:
    stats = statistics(drawn)
    ours = Normalizer(stats, mode, "openpi").normalize(raw)
    theirs = lerobot_formula(lerobot_statistics(stats, mode, "openpi"), raw, mode)
    np.testing.assert_allclose(theirs, ours, rtol=2e-4 if mode == "MEAN_STD" else 1e-7, atol=1e-5)


@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
@given(drawn=columns)
def test_what_is_in_the_readers_formula_stays_to_the_bit(mode, drawn) -> None:
    stats = statistics(drawn)
    same = lerobot_statistics(stats, mode, "lerobot")
    assert all(np.array_equal(same[name], stats.value(name)) for name in FIELDS)
    same = openpi_statistics(stats, "QUANTILES", "openpi")
    assert all(np.array_equal(same[name], stats.value(name)) for name in ("mean", "std", "q01", "q99"))


@given(drawn=columns)
def test_only_the_statistic_in_use_changes(drawn) -> None:
    stats = statistics(drawn)
    for mode, used in (("QUANTILES", "q99"), ("MEAN_STD", "std"), ("IDENTITY", None)):
        written = lerobot_statistics(stats, mode, "openpi")
        changed = {name for name in FIELDS if not np.array_equal(written[name], stats.value(name))}
        assert changed == ({used} if used else set())


def test_unknown_statistics_are_left_out_or_filled() -> None:
    stats = DimStats(q01=np.array([1.0]), q99=np.array([3.0]), count=0)
    assert set(lerobot_statistics(stats, "QUANTILES", "lerobot")) == {"q01", "q99"}
    assert openpi_statistics(stats, "QUANTILES", "openpi")["mean"] == pytest.approx(2.0)
    assert openpi_statistics(stats, "QUANTILES", "openpi")["std"] == pytest.approx(1.0)


@pytest.mark.parametrize("formula", ["openpi", "lerobot"])
@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
@given(drawn=columns)
def test_half_range_is_what_one_unit_means(mode, formula, drawn) -> None:
    stats = statistics(drawn)
    normalizer = Normalizer(stats, mode, formula)
    step = normalizer.unnormalize(np.ones(3)) - normalizer.unnormalize(np.zeros(3))
    np.testing.assert_allclose(step, half_ranges(stats, mode, formula), rtol=1e-4, atol=1e-5)


def test_a_narrow_range_far_from_zero_is_found_coarse() -> None:
    stats = DimStats(q01=np.array([99.99995, -1.0]), q99=np.array([100.00005, 1.0]), count=0)
    moved = rounding(lerobot_statistics(stats, "QUANTILES", "openpi"), "QUANTILES")
    assert moved[0] > COARSE
    assert moved[1] < 1e-6
