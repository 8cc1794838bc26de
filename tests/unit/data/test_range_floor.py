"""The least range: glitches of any number squeeze nothing, rare events stay bounded, and noise stays noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from episodes_in_memory import Episodes
from hypothesis import given
from hypothesis import strategies as st

from pi05.data.range_floor import ABSOLUTE_FLOOR, steady
from pi05.data.statistics import DimStats, Floor, compute_statistics

Change = Callable[[np.random.Generator, int, np.ndarray], None]


def ranges(
    change: Change, episodes: int, length: int, scale: float, *, relative: bool = False, floor: Floor = "lasting"
) -> tuple[float, float]:
    """Return the range of a joint that moves by `scale`, once as it is and once changed episode by episode."""
    widths = []
    for changed in (False, True):
        rng = np.random.default_rng(0)
        parts = []
        for episode in range(episodes):
            walk = np.cumsum(rng.normal(size=(length, 1)), axis=0)
            action = (scale * walk / np.abs(walk).max()).astype(np.float32)
            state = np.roll(action, 1, axis=0)
            if changed:
                change(rng, episode, action)
            parts.append((state, action))
        mask = np.array([True]) if relative else None
        stats = compute_statistics(Episodes(parts), range(episodes), 10, mask, floor=floor).action
        widths.append(width(stats))
    return widths[0], widths[1]


def width(stats: DimStats) -> float:
    return float(stats.value("q99")[0] - stats.value("q01")[0])


def glitch(frames: int, of_episodes: int, value: float) -> Change:
    """Return a change that breaks frames one by one, in the first few episodes."""

    def change(rng: np.random.Generator, episode: int, action: np.ndarray) -> None:
        if episode < of_episodes:
            places = rng.choice(len(action) // 4, frames, replace=False) * 4
            action[places] = value

    return change


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(
    ("change", "episodes", "length", "scale"),
    [
        (glitch(1, 1, 1e4), 5, 106, 4e-4),
        (glitch(1, 1, 4096.0), 10, 100, 1.0),
        (glitch(1, 15, 4096.0), 50, 300, 1.0),
        (glitch(1, 1, 1e4), 50, 300, 1.0),
        (glitch(2, 1, -1e6), 4, 400, 1.0),
    ],
)
def test_glitches_change_no_range(change: Change, episodes: int, length: int, scale: float, relative: bool) -> None:
    clean, broken = ranges(change, episodes, length, scale, relative=relative)
    assert broken == pytest.approx(clean, rel=0.25)


@pytest.mark.parametrize("place", [0, 1, -1, -2, 50])
def test_a_glitch_at_either_end_is_one(place: int) -> None:
    def change(rng: np.random.Generator, episode: int, action: np.ndarray) -> None:
        if episode == 0:
            action[place] = 4096

    clean, broken = ranges(change, 10, 100, 1.0)
    assert broken == pytest.approx(clean, rel=0.1)


def hold(frames: int, every: int) -> Change:
    """Return a change that sets a constant joint to 1 for some frames, in every n-th episode."""

    def change(rng: np.random.Generator, episode: int, action: np.ndarray) -> None:
        action[:] = 0
        if episode % every == 0:
            start = int(rng.integers(0, len(action) - frames))
            action[start : start + frames] = 1

    return change


@pytest.mark.parametrize(
    ("frames", "every"),
    [(3, 1), (20, 10), (1, 1), (1, 2), (2, 1)],
    ids=["short", "rare", "pulse", "pulse in every other episode", "two frames"],
)
def test_what_really_happens_stays_bounded(frames: int, every: int) -> None:
    """A gripper that closes in 0.2 to 0.9 % of the frames: 1 is normalised to 20 at most."""
    _, final = ranges(hold(frames, every), 20, 400, 1.0)
    assert final == pytest.approx(0.1)


def test_a_wrist_that_is_turned_in_one_episode_of_a_hundred_stays_bounded() -> None:
    """0.03 % of the frames; a range of 1e-4 would make them 10,000, and the loss theirs."""
    _, final = ranges(hold(3, 100), 100, 100, 1.0)
    assert final == pytest.approx(0.1)


def test_a_pulse_in_every_episode_stays_bounded_however_long_they_are() -> None:
    """0.03 % of the frames again."""
    _, final = ranges(hold(1, 1), 10, 3_000, 1.0)
    assert final == pytest.approx(0.1)


def test_a_sensor_that_hangs_squeezes_no_joint_that_moves() -> None:
    def hang(rng: np.random.Generator, episode: int, action: np.ndarray) -> None:
        if episode == 0:
            action[40:52] = 4096

    clean, broken = ranges(hang, 50, 300, 1.0)
    assert broken == pytest.approx(clean, rel=0.1)


def test_pulses_in_few_episodes_are_glitches() -> None:
    _, final = ranges(hold(1, 4), 20, 400, 1.0)
    assert final == pytest.approx(ABSOLUTE_FLOOR)


def test_noise_on_a_constant_keeps_its_own_range() -> None:
    def noise(rng: np.random.Generator, episode: int, action: np.ndarray) -> None:
        action[:] = 1.5 + rng.normal(size=action.shape) * 2e-4

    _, final = ranges(noise, 20, 400, 1.0)
    assert final == pytest.approx(2e-4 * 4.65, rel=0.05)


def test_the_peers_quantiles_are_plain() -> None:
    _, final = ranges(hold(20, 10), 20, 400, 1.0, floor="none")
    assert final == 0
    _, final = ranges(glitch(1, 20, 4096.0), 50, 300, 1.0, floor="spread")
    assert final > 100, "what version 0.1 did"


def test_a_constant_that_stays_as_narrow_as_it_is_is_not_said_to_be_widened() -> None:
    still = np.ones((20, 1), np.float32)
    for floor, said in (("lasting", "widened to 0.0001"), ("none", "the range stays 0, as was asked for")):
        found = compute_statistics(Episodes([(still, still)]), [0], 5, floor=cast(Floor, floor))
        assert any(sentence.endswith(said) for sentence in found.warnings), found.warnings


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=12), st.data())
def test_the_steady_signal_has_no_events_of_two_frames(values: list[int], data: st.DataObject) -> None:
    signal = np.array(values, np.float32)[:, None]
    calm = steady(signal)
    assert calm.shape == signal.shape
    assert set(calm[:, 0]) <= set(values)
    flat = np.zeros((20, 1), np.float32)
    place, frames = data.draw(st.integers(0, 18)), data.draw(st.integers(1, 4))
    flat[place : place + frames] = 5
    assert bool(steady(flat).any()) == (len(flat[place : place + frames]) > 2)
