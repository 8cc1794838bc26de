"""The same recording in two episodes: whole, trimmed at either end, in pieces; and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from check_subjects import JOINTS, write_set
from hypothesis import given, settings
from hypothesis import strategies as st

from pi05.check import copies as module
from pi05.check.copies import RUN, Copy, find_copies, find_copies_of, runs_of
from pi05.data.lerobot.reader import Dataset

LENGTH = 60
Numbers = tuple[np.ndarray, np.ndarray]


def walk(seed: int, length: int = 4 * LENGTH) -> Numbers:
    rng = np.random.default_rng(seed)
    states = np.cumsum(rng.normal(size=(length, len(JOINTS))), axis=0).astype(np.float32)
    return states, (states + rng.normal(size=states.shape)).astype(np.float32)


def written(root: Path, *episodes: Numbers) -> Dataset:
    """Write a set of these recordings, of any lengths."""
    pieces = [np.concatenate(one, axis=1) for one in episodes]

    def change(episode: int, states: np.ndarray, actions: np.ndarray) -> Numbers:
        return pieces[episode][:, : len(JOINTS)], pieces[episode][:, len(JOINTS) :]

    return write_set(root / "set", episodes=len(pieces), change=change)


def rows(recording: Numbers, first: int, last: int) -> Numbers:
    return recording[0][first:last], recording[1][first:last]


def joined(*parts: Numbers) -> Numbers:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def told(copies: list[Copy]) -> list[tuple[int, int, float]]:
    return [(copy.episode, copy.of, round(copy.share, 2)) for copy in copies]


def test_other_recordings_are_no_copies(tmp_path: Path) -> None:
    dataset = written(tmp_path, *(rows(walk(seed), 0, LENGTH) for seed in range(4)))
    assert find_copies(dataset, range(4)) == []
    assert find_copies_of(dataset, [0, 1], [2, 3]) == []


def test_a_whole_copy(tmp_path: Path) -> None:
    dataset = written(tmp_path, *(rows(walk(seed), 0, LENGTH) for seed in (0, 1, 2, 1)))
    assert find_copies(dataset, range(4)) == find_copies(dataset, [3, 1]) == [Copy(3, 1, 1.0)]
    assert str(Copy(3, 1, 1.0)) == "3 of 1"
    assert find_copies_of(dataset, [1], [0, 3]) == [Copy(1, 3, 1.0)]
    assert find_copies(dataset, [0, 1, 2]) == []


@pytest.mark.parametrize("length", [9, 17, 20, 28, 60])
@pytest.mark.parametrize(("first", "last"), [(1, 0), (0, 1), (2, 1)])
def test_a_copy_that_was_trimmed(tmp_path: Path, length: int, first: int, last: int) -> None:
    """The longer one is the original, wherever it stands; what is shorter than a run is found whole only."""
    whole = rows(walk(1), 0, length)
    dataset = written(tmp_path, rows(whole, first, length - last), rows(walk(2), 0, length), whole)
    expected = [] if length - first - last < RUN else [(0, 2, 1.0)]
    assert told(find_copies(dataset, range(3))) == expected
    assert told(find_copies_of(dataset, [0], [1, 2])) == expected


@pytest.mark.parametrize(("shared", "is_told"), [(60, True), (50, True), (20, False)])
def test_half_of_another_recording(tmp_path: Path, shared: int, is_told: bool) -> None:
    mixed = joined(rows(walk(1), 100 - shared, 100), rows(walk(2), 0, 100 - shared))
    dataset = written(tmp_path, rows(walk(1), 0, 100), mixed)
    assert bool(find_copies(dataset, range(2))) == is_told


def test_what_lies_in_several_that_are_trained_on(tmp_path: Path) -> None:
    one = walk(1, 400)
    dataset = written(tmp_path, rows(one, 0, 200), rows(one, 200, 400), rows(one, 100, 300))
    assert told(find_copies_of(dataset, [2], [0, 1])) == [(2, 0, 0.96)]


def test_a_snippet_in_training_does_not_spoil_a_long_episode(tmp_path: Path) -> None:
    one = walk(1, 600)
    dataset = written(tmp_path, rows(one, 100, 140), one)
    assert find_copies_of(dataset, [1], [0]) == []
    assert told(find_copies(dataset, range(2))) == [(0, 1, 1.0)]


@pytest.mark.parametrize("times", [1, 3, 5])
def test_numbers_that_are_slower_than_the_recording(tmp_path: Path, times: int) -> None:
    slow = tuple(np.repeat(each[:LENGTH], times, axis=0) for each in walk(1))
    dataset = written(tmp_path, (slow[0], slow[1]), rows((slow[0], slow[1]), 4, LENGTH * times - 3))
    assert told(find_copies(dataset, range(2))) == [(1, 0, 1.0)]


def test_the_same_states_with_other_actions_are_another_recording(tmp_path: Path) -> None:
    dataset = written(tmp_path, *((walk(1)[0][:LENGTH], walk(seed)[1][:LENGTH]) for seed in range(3)))
    assert find_copies(dataset, range(3)) == []


def test_robots_that_rest_in_one_place_are_no_copies(tmp_path: Path) -> None:
    """Each moves for a while of its own, and then rests where all of them rest, its gripper's command changing."""
    rest = np.full((LENGTH, len(JOINTS)), 0.5, np.float32)
    commands = walk(9)[1][:LENGTH]
    dataset = written(tmp_path, *(joined(rows(walk(seed), 0, 15), (rest, commands)) for seed in range(4)))
    assert find_copies(dataset, range(4)) == []


@pytest.mark.parametrize("every", [1, 2, 7])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(RUN, 60), first=st.integers(0, 100))
def test_a_run_is_found_wherever_it_begins(every: int, seed: int, length: int, first: int) -> None:
    """The runs of a piece are those of the whole that lie in it."""
    one = walk(seed, 200)
    whole, part = runs_of(*one, every), runs_of(*rows(one, first, first + length), every)
    assert set(part) <= set(whole)
    if every == 1:
        assert len(set(part)) == length - RUN + 1


def test_of_large_sets_some_runs_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALL_RUNS", 100)
    one = walk(1, 400)
    dataset = written(tmp_path, one, rows(one, 37, 390), walk(2, 300))
    assert told(find_copies(dataset, range(3))) == [(1, 0, 1.0)]
    taken = len(runs_of(*one, module._every(dataset, range(3))))
    assert 0 < taken < 100
