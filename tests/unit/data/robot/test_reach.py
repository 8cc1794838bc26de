"""How far from the training data a state may be: sound new episodes are, other units are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pi05.data.lerobot.reader import Dataset
from pi05.data.robot.reach import reach_of
from pi05.data.statistics import DimStats


def statistics_of(episodes: list[np.ndarray]) -> DimStats:
    frames = np.concatenate(episodes).astype(np.float64)
    low, high = frames.min(axis=0), frames.max(axis=0)
    return DimStats(min=low, max=high, mean=frames.mean(axis=0), std=frames.std(axis=0), count=len(frames))


def tabletop_like(count: int, seed: int) -> list[np.ndarray]:
    """Return ways over a table from a place to a place, with a gripper that closes: x, y in metres, opening 0 to 1."""
    rng = np.random.default_rng(seed)
    episodes = []
    for _ in range(count):
        start, stop = rng.uniform(-0.25, 0.25, (2, 2))
        length = int(rng.integers(10, 24))
        way = np.linspace(0, 1, length)[:, None]
        opening = np.where(way < rng.uniform(0.4, 0.8), 1.0, 0.0)
        episodes.append(np.concatenate([start + way * (stop - start), opening], axis=1))
    return episodes


@pytest.mark.parametrize("seed", range(20))
def test_new_episodes_of_the_same_robot_are_within_reach_of_twelve(seed: int) -> None:
    reach = reach_of(statistics_of(tabletop_like(12, seed)))
    assert reach is not None
    new = np.concatenate(tabletop_like(200, 1_000 + seed))
    assert not np.any([reach.outside(state) for state in new])


def test_twelve_episodes_tell_centimetres_from_metres() -> None:
    reach = reach_of(statistics_of(tabletop_like(12, 0)))
    assert reach is not None
    wrong = np.array([reach.surely_wrong(state * [100, 100, 1]) for state in np.concatenate(tabletop_like(30, 7))])
    assert wrong[:, :2].any(axis=1).mean() > 0.9
    assert not wrong[:, 2].any()


def episodes_of(path: Path) -> list[np.ndarray]:
    dataset = Dataset(path)
    return [dataset.states()[e.start : e.start + e.length] for e in dataset.episodes]


def test_each_episode_of_cr5_is_within_reach_of_the_others_and_in_degrees_is_not(shared: Path) -> None:
    """A held-out episode was told "other units" for a joint that the others hold within 0.0001 rad."""
    episodes = episodes_of(shared / "datasets" / "cr5_v21_5ep")
    for held_out, states in enumerate(episodes):
        reach = reach_of(statistics_of([e for number, e in enumerate(episodes) if number != held_out]))
        assert reach is not None
        assert not np.any([reach.outside(state) for state in states]), held_out
        assert all(reach.surely_wrong(np.rad2deg(state)).any() for state in states), held_out


def test_many_frames_leave_a_tenth_of_the_range() -> None:
    stats = DimStats(min=np.zeros(2), max=np.array([1.0, 0.0]), count=10_000_000)
    reach = reach_of(stats)
    assert reach is not None
    assert reach.slack == pytest.approx([0.1095, 1.095e-7], rel=0.01)
    assert reach.outside(np.array([1.2, 0.0])).tolist() == [True, False]
    assert reach.outside(np.array([np.nan, 0.0])).tolist() == [True, False]
    assert not reach.surely_wrong(np.array([1.2, 0.0])).any()


def test_a_range_that_is_not_known_is_not_left() -> None:
    assert reach_of(DimStats(mean=np.zeros(2), std=np.ones(2), count=5)) is None
