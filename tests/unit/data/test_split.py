"""Held-out episodes: a share of each task, from the seed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi05.data.split import split_episodes


def tasks_of(*counts: int) -> SimpleNamespace:
    """Return a data set with these numbers of episodes per task, interleaved."""
    names = [f"task {task}" for turn in range(max(counts)) for task, count in enumerate(counts) if turn < count]
    return SimpleNamespace(num_episodes=len(names), episodes=[SimpleNamespace(tasks=(name,)) for name in names])


def held_per_task(dataset: SimpleNamespace, held_out: list[int], tasks: int) -> list[int]:
    return [sum(dataset.episodes[i].tasks[0] == f"task {task}" for i in held_out) for task in range(tasks)]


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ((100,), 0.05, [5]),
        ((5, 6, 40), 0.05, [1, 1, 2]),
        ((1,), 0.05, [0]),
        ((4,), 0.05, [0]),
        ((4, 40), 0.05, [0, 2]),
        ((19,), 0.05, [1]),
        ((12,), 0.25, [3]),
        ((5, 5), 0.9, [4, 4]),
        ((100, 3), 0.0, [0, 0]),
    ],
)
def test_held_out_share_of_each_task(counts: tuple[int, ...], fraction: float, expected: list[int]) -> None:
    dataset = tasks_of(*counts)
    train, held_out = split_episodes(dataset, fraction, seed=0)
    assert held_per_task(dataset, held_out, len(counts)) == expected
    assert sorted(train + held_out) == list(range(dataset.num_episodes))


def test_many_small_tasks_share_the_burden() -> None:
    dataset = tasks_of(*[4] * 20)
    _, held_out = split_episodes(dataset, 0.05, seed=0)
    assert sorted(held_per_task(dataset, held_out, 20)) == [0] * 17 + [1] * 3


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=120),
    st.floats(0.02, 0.6),
    st.integers(0, 3),
    st.data(),
)
def test_nobody_changes_sides_when_the_set_grows(
    tasks: list[int], fraction: float, seed: int, data: st.DataObject
) -> None:
    def split(count: int) -> list[int]:
        episodes = [SimpleNamespace(tasks=(f"task {task}",)) for task in tasks[:count]]
        whole = SimpleNamespace(num_episodes=count, episodes=episodes)
        train, held_out = split_episodes(whole, fraction, seed)
        assert sorted(train + held_out) == list(range(count))
        assert {tasks[i] for i in held_out} <= {tasks[i] for i in train}
        for task in set(tasks[:count]):
            if tasks[:count].count(task) > 4:
                assert task in {tasks[i] for i in held_out}
        return held_out

    short = data.draw(st.integers(1, len(tasks)))
    assert split(short) == [index for index in split(len(tasks)) if index < short]


def test_episodes_that_are_left_out_move_nobody() -> None:
    dataset = tasks_of(60)
    held_out = split_episodes(dataset, 0.1, 1)[1]
    for left_out in range(60):
        chosen = [index for index in range(60) if index != left_out]
        assert split_episodes(dataset, 0.1, 1, chosen)[1] == [index for index in held_out if index != left_out]


def test_a_choice_that_holds_no_held_out_episode_gets_its_own() -> None:
    dataset = tasks_of(60)
    held_out = split_episodes(dataset, 0.05, 1)[1]
    chosen = [index for index in range(60) if index not in held_out]
    assert split_episodes(dataset, 0.05, 1, chosen)[1]
    train, again = split_episodes(dataset, 0.05, 1, held_out[:1])
    assert (train, again) == (held_out[:1], [])


def test_the_split_comes_from_the_seed_and_the_choice() -> None:
    dataset = tasks_of(60)
    first, again, other = (split_episodes(dataset, 0.1, seed)[1] for seed in (1, 1, 2))
    assert first == again != other
    train, held_out = split_episodes(dataset, 0.1, 1, episodes=[*range(20)])
    assert sorted(train + held_out) == list(range(20))
    assert len(held_out) == 2
