"""The same recording in two episodes: whole, trimmed at either end, cut out of the middle; and what is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from check_subjects import JOINTS, write_set
from hypothesis import given, settings
from hypothesis import strategies as st

from pi05.check.copies import SHARE, Copy, find_copies, runs_of
from pi05.data.lerobot.reader import Dataset

LENGTH = 60
Numbers = tuple[np.ndarray, np.ndarray]


def walk(seed: int, length: int = 4 * LENGTH) -> Numbers:
    rng = np.random.default_rng(seed)
    states = np.cumsum(rng.normal(size=(length, len(JOINTS))), axis=0).astype(np.float32)
    return states, (states + rng.normal(size=states.shape)).astype(np.float32)


def written(root: Path, change: Callable[[int, Numbers], Numbers]) -> Dataset:
    """Write four episodes of other walks, which `change` may replace."""

    def changed(episode: int, states: np.ndarray, actions: np.ndarray) -> Numbers:
        own = walk(episode)
        return change(episode, (own[0][:LENGTH], own[1][:LENGTH]))

    return write_set(root / "set", episodes=4, length=LENGTH, change=changed)


def piece(begin: int) -> Callable[[int, Numbers], Numbers]:
    """Make episode 3 of the rows of episode 1 from there on, and of other rows where these end."""

    def change(episode: int, own: Numbers) -> Numbers:
        if episode != 3:
            return own
        one = walk(1)
        return (
            np.concatenate([one[0][begin:LENGTH], own[0][: LENGTH - len(one[0][begin:LENGTH])]]),
            np.concatenate([one[1][begin:LENGTH], own[1][: LENGTH - len(one[1][begin:LENGTH])]]),
        )

    return change


def test_other_recordings_are_no_copies(tmp_path: Path) -> None:
    assert find_copies(written(tmp_path, lambda episode, own: own), range(4)) == []


def test_a_whole_copy(tmp_path: Path) -> None:
    dataset = written(tmp_path, piece(0))
    assert find_copies(dataset, range(4)) == [Copy(3, 1, 1.0, True)]
    assert find_copies(dataset, [3, 1]) == [Copy(1, 3, 1.0, True)]
    assert find_copies(dataset, [0, 1, 2]) == []


@pytest.mark.parametrize(("begin", "is_told"), [(1, True), (7, True), (20, True), (50, False)])
def test_a_piece_of_a_recording(tmp_path: Path, begin: int, is_told: bool) -> None:
    found = find_copies(written(tmp_path, piece(begin)), range(4))
    assert [(copy.episode, copy.of, copy.is_whole) for copy in found] == ([(3, 1, False)] if is_told else [])
    if found:
        assert SHARE <= found[0].share <= 1
        assert str(found[0]).startswith("3 of 1 (")


def test_the_same_states_with_other_actions_are_another_recording(tmp_path: Path) -> None:
    dataset = written(tmp_path, lambda episode, own: (walk(1)[0][:LENGTH], own[1]))
    assert find_copies(dataset, range(4)) == []


def test_robots_that_rest_in_one_place_are_no_copies(tmp_path: Path) -> None:
    """Each moves for a while of its own, and then rests where all of them rest."""

    def change(episode: int, own: Numbers) -> Numbers:
        for values in own:
            values[15:] = 0.5
        return own

    assert find_copies(written(tmp_path, change), range(4)) == []


def test_what_never_moves_is_another_finding_s(tmp_path: Path) -> None:
    still = np.full((LENGTH, len(JOINTS)), 0.25, np.float32)
    assert find_copies(written(tmp_path, lambda *_: (still.copy(), still.copy())), range(4)) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(16, 60), st.integers(0, 100))
def test_a_run_is_found_wherever_it_begins(seed: int, length: int, begin: int) -> None:
    """The runs of a piece are those of the whole that lie in it."""
    states, actions = walk(seed, 200)
    cut = slice(begin, begin + length)
    whole, part = runs_of(states, actions), runs_of(states[cut], actions[cut])
    assert set(part) <= set(whole)
    assert len(part) > 0 or length < 48
