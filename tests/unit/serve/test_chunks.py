from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi05.serve.chunks import REMEMBERED, ChunkPlayer, Delays


def chunk(origin: int, length: int = 10) -> np.ndarray:
    """Return actions that say for which step they are."""
    return np.arange(origin, origin + length, dtype=np.float32)[:, None]


def steps(player: ChunkPlayer, count: int) -> list[float]:
    return [float(action[0]) for _ in range(count) if (action := player.next()) is not None]


def test_a_chunk_is_played_until_a_new_one_is_wanted() -> None:
    player = ChunkPlayer(3)
    assert player.wants_chunk
    assert player.next() is None
    assert player.take(chunk(0), 0)
    assert steps(player, 3) == [0, 1, 2]
    assert (player.wants_chunk, player.left) == (True, 7)
    assert steps(player, 9) == [3, 4, 5, 6, 7, 8, 9]  # then there is none


def test_a_chunk_that_arrives_later_begins_later() -> None:
    player = ChunkPlayer(3)
    player.take(chunk(0), 0)
    steps(player, 3)
    asked_at = player.step
    steps(player, 2)  # the arm moves on while the network thinks
    assert player.take(chunk(asked_at) + 0.5, asked_at)
    assert steps(player, 2) == [5.5, 6.5]


def test_an_old_chunk_is_never_taken() -> None:
    player = ChunkPlayer(3)
    player.take(chunk(0), 0)
    steps(player, 5)
    assert player.take(chunk(4), 4)
    assert not player.take(chunk(3), 3)  # older than the one in execution
    assert not player.take(chunk(9), 9)  # of an observation that was not made yet
    steps(player, 9)
    assert not player.take(chunk(4), 4)
    short = ChunkPlayer(3)
    short.step = 20
    assert not short.take(chunk(10), 10)  # all its actions are for steps that have passed


def test_a_reset_forgets_the_chunk_and_goes_on_counting() -> None:
    player = ChunkPlayer(3)
    player.take(chunk(0), 0)
    steps(player, 4)
    player.reset()
    assert (player.wants_chunk, player.left, player.next()) == (True, 0, None)
    assert not player.take(chunk(-10), -10)
    assert player.take(chunk(4), 4)
    assert steps(player, 1) == [4]


@given(events=st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=60))
def test_whatever_arrives_when_an_action_is_for_its_own_step(events: list[tuple[bool, int]]) -> None:
    player = ChunkPlayer(4)
    for arrives, age in events:
        if arrives:
            origin = max(0, player.step - age)
            player.take(chunk(origin, 6), origin)
        at = player.step
        action = player.next()
        assert action is None or action[0] == at
        assert player.step == at + (action is not None)


@pytest.mark.parametrize("n_action_steps", [1, 10, 50])
def test_no_more_is_planned_than_a_chunk_holds(n_action_steps: int) -> None:
    player = ChunkPlayer(n_action_steps)
    player.take(chunk(0), 0)
    planned = 0
    while not player.wants_chunk:
        player.next()
        planned += 1
    assert planned == min(n_action_steps, 10)


def test_a_chunk_that_continues_takes_over_when_it_was_told() -> None:
    player = ChunkPlayer(3)
    player.take(chunk(0), 0)
    steps(player, 3)
    assert player.take(chunk(3) + 0.5, 3, delay=4)
    assert (player.wants_chunk, player.origin) == (False, 0)
    assert not player.take(chunk(2), 2)  # older than the one that is waiting
    assert steps(player, 6) == [3, 4, 5, 6, 7.5, 8.5]
    assert (player.wants_chunk, player.origin) == (True, 3)
    assert player.take(chunk(9), 9, delay=2)
    player.reset()  # forgets the one that is waiting, too
    assert (player.left, player.origin) == (0, None)


def test_a_chunk_that_comes_later_than_told_takes_over_at_once() -> None:
    player = ChunkPlayer(3)
    player.take(chunk(0), 0)
    steps(player, 5)
    assert player.take(chunk(3) + 0.5, 3, delay=1)
    assert steps(player, 1) == [5.5]


def test_the_longest_of_the_last_delays_is_forecast() -> None:
    delays = Delays(30.0, 0.101)
    assert delays.forecast == 4  # control steps that 101 ms last at 30 Hz, rounded up
    delays.note(2)
    assert delays.forecast == 4
    for _ in range(REMEMBERED):
        delays.note(2)
    assert delays.forecast == 2
    assert Delays(30.0, 0.0).forecast == 0
