"""Statistics: exact against NumPy on everything written out, the floor, the warnings, broken values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from episodes_in_memory import Episodes, random_episodes, written_out
from fakes import write_dataset

from pi05.data.lerobot.reader import Dataset
from pi05.data.statistics import ABSOLUTE_FLOOR, DimStats, Statistics, compute_statistics
from pi05.data.transforms import Normalizer
from pi05.errors import DataError

FLOAT64 = 1e-12
"""Sums of float64 in another order."""


def assert_exact(stats: DimStats, values: np.ndarray) -> None:
    kept = [i for i in range(stats.dim) if i not in stats.widened]
    assert stats.count == len(values)
    for name, expected in (
        ("min", values.min(axis=0)),
        ("max", values.max(axis=0)),
        ("q01", np.quantile(values, 0.01, axis=0)),
        ("q99", np.quantile(values, 0.99, axis=0)),
    ):
        np.testing.assert_array_equal(getattr(stats, name)[kept], expected[kept], err_msg=name)
    np.testing.assert_allclose(stats.mean, values.mean(axis=0), rtol=FLOAT64, atol=FLOAT64)
    np.testing.assert_allclose(stats.std[kept], values.std(axis=0)[kept], rtol=FLOAT64)


@pytest.mark.parametrize("mask", [None, [True, True, True], [True, False, True]])
@pytest.mark.parametrize("horizon", [1, 7, 50])
def test_equals_numpy_on_the_written_out_chunks(mask: list[bool] | None, horizon: int) -> None:
    episodes = random_episodes([1, 5, 40, 123])
    chosen = None if mask is None else np.array(mask)
    statistics = compute_statistics(episodes, [0, 1, 2, 3], horizon, chosen)
    assert_exact(statistics.action, written_out(episodes, horizon, chosen))
    assert_exact(statistics.state, np.concatenate([state for state, _ in episodes.parts]).astype(np.float64))
    assert 0 not in statistics.action.widened


def test_only_the_given_episodes_count() -> None:
    episodes = random_episodes([20, 30, 10])
    statistics = compute_statistics(episodes, [0, 2], 5)
    chosen = Episodes([episodes.parts[0], episodes.parts[2]])
    assert_exact(statistics.action, written_out(chosen, 5, None))


def test_equals_numpy_on_a_data_set_on_disk(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v3.0", (12, 9, 7), storage="image")
    statistics = compute_statistics(Dataset(fake.root), [0, 1, 2], 4)
    ends = np.cumsum(fake.lengths)[:-1]
    parts = list(zip(np.split(fake.states, ends), np.split(fake.actions, ends), strict=True))
    assert_exact(statistics.action, written_out(Episodes(parts), 4, None))
    assert_exact(statistics.state, fake.states.astype(np.float64))
    assert not statistics.warnings


def with_column(column: np.ndarray) -> Statistics:
    """Return statistics of one long episode with this action and a normal one."""
    rng = np.random.default_rng(0)
    action = np.stack([column, rng.normal(size=len(column))], axis=-1).astype(np.float32)
    episodes = Episodes([(action, action)], state_names=["reach", "b"], action_names=["reach", "b"])
    return compute_statistics(episodes, [0], 10)


def largest_normalised(statistics: Statistics, column: np.ndarray) -> float:
    values = np.stack([column, column], axis=-1)
    normalised = Normalizer(statistics.action, "QUANTILES").normalize(values)[:, 0]
    return float(np.abs(normalised).max())


def test_a_constant_dimension_is_widened_and_named() -> None:
    statistics = with_column(np.full(1000, 0.25))
    action = statistics.action
    assert action.widened == (0,)
    assert action.q99[0] - action.q01[0] == pytest.approx(ABSOLUTE_FLOOR)
    assert (action.q01[0] + action.q99[0]) / 2 == pytest.approx(0.25)
    assert action.std[0] > 1e-5
    assert any("1 action dimension is constant: 0 (reach);" in warning for warning in statistics.warnings)
    assert not any("(b)" in warning for warning in statistics.warnings)


def test_a_rare_event_stays_bounded() -> None:
    """A gripper that closes in 0.5 % of the frames has q01 = q99; without a floor 1 would become 2,000,000."""
    column = np.zeros(4000)
    column[1000:1020] = 1
    statistics = with_column(column)
    assert largest_normalised(statistics, column) <= 21
    assert any("action dimension 0 (reach) is nearly constant" in warning for warning in statistics.warnings)


def test_noise_on_a_constant_stays_bounded() -> None:
    column = 1.57 + np.random.default_rng(1).normal(size=4000) * 1e-6
    statistics = with_column(column)
    assert largest_normalised(statistics, column.astype(np.float32)) < 1.5
    assert statistics.action.widened == (0,)


def test_a_glitch_does_not_squeeze_the_dimension_but_is_named() -> None:
    column = np.random.default_rng(1).normal(size=20_000)
    column[777] = 1e4
    statistics = with_column(column)
    assert statistics.action.widened == ()
    assert statistics.action.q99[0] < 3
    assert any("action dimension 0 (reach) has rare values far outside" in warning for warning in statistics.warnings)


def test_what_was_widened_survives_storage() -> None:
    action = with_column(np.full(100, 0.25)).action
    again = DimStats.from_dict(action.to_dict())
    assert again.to_dict() == action.to_dict()
    assert again.widened == (0,)


def test_stored_statistics_must_be_complete() -> None:
    stored = with_column(np.arange(100.0)).action.to_dict()
    del stored["q99"]
    with pytest.raises(DataError, match="q99"):
        DimStats.from_dict(stored)
    stored["q99"] = [1.0]
    with pytest.raises(DataError, match="lengths"):
        DimStats.from_dict(stored)


def test_the_hash_tells_data_apart() -> None:
    first, again = (compute_statistics(random_episodes([30, 20]), [0, 1], 5) for _ in range(2))
    assert first.sha256 == again.sha256
    others = [
        compute_statistics(random_episodes([30, 20]), [0], 5),
        compute_statistics(random_episodes([30, 20]), [0, 1], 6),
        compute_statistics(random_episodes([30, 20], seed=1), [0, 1], 5),
    ]
    assert len({first.sha256, *(other.sha256 for other in others)}) == 4


def test_a_value_that_is_not_a_number_is_an_error() -> None:
    episodes = random_episodes([10, 10])
    episodes.parts[1][1][3, 2] = np.nan
    with pytest.raises(DataError, match=r"episode 1, frame 3, dimension 2"):
        compute_statistics(episodes, [0, 1], 5)


def test_relative_actions_need_their_state() -> None:
    parts = [(state[:, :2], action) for state, action in random_episodes([10]).parts]
    with pytest.raises(DataError, match="relative_exclude_joints"):
        compute_statistics(Episodes(parts), [0], 5, np.array([False, False, True]))
    assert compute_statistics(Episodes(parts), [0], 5, np.array([True, True, False])).action.dim == 3


def test_no_episode_is_an_error() -> None:
    with pytest.raises(DataError, match="no training episode"):
        compute_statistics(random_episodes([3]), [], 5)


def test_the_constant_dimensions_of_gr1_are_named(shared: Path) -> None:
    """A real trap: 18 state and 25 action dimensions of this set have q01 = q99."""
    dataset = Dataset(
        shared / "datasets" / "gr1_sim_v20_5ep", drop_cameras=["observation.images.egoview"], allow=["timestamps"]
    )
    statistics = compute_statistics(dataset, range(5), 16)
    warnings = "\n".join(statistics.warnings)
    for kind, count, stats in (("state", 18, statistics.state), ("action", 25, statistics.action)):
        constant = np.flatnonzero(stats.min == stats.max)
        assert len(constant) == count
        assert f"{count} {kind} dimensions are constant" in warnings
        assert all(f"{i} (motor_{i})" in warnings for i in constant)
        raw = dataset.states() if kind == "state" else dataset.actions()
        assert np.abs(Normalizer(stats, "QUANTILES").normalize(raw)).max() < 25


def test_foreign_statistics_may_be_incomplete() -> None:
    stats = DimStats(q01=np.zeros(2), q99=np.ones(2), count=0)
    assert (stats.dim, stats.known) == (2, ["q01", "q99"])
    again = DimStats.from_dict(stats.to_dict())
    assert again.to_dict() == stats.to_dict()
    assert stats.range is not None
    np.testing.assert_array_equal(stats.range[1], [1, 1])
    assert DimStats(mean=np.zeros(2), std=np.ones(2), count=0).range is None
    with pytest.raises(DataError, match="lack min"):
        stats.value("min")
    with pytest.raises(DataError, match="empty"):
        DimStats(count=0)


def test_the_range_is_that_of_the_data_where_known() -> None:
    stats = DimStats(min=np.full(1, -3.0), max=np.full(1, 3.0), q01=np.zeros(1), q99=np.ones(1), count=0)
    assert stats.range is not None
    assert [float(end[0]) for end in stats.range] == [-3, 3]
