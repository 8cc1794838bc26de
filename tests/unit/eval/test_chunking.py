"""What is carried out from look to look when chunks are late: which action of which chunk, and where the seams are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi05.errors import EvaluationError
from pi05.eval.chunking import Course, require_possible
from pi05.eval.config import EvalConfig
from pi05.eval.places.place import EnvironmentFacts
from pi05.eval.rules import rules_of

HORIZON, LOOKS = 10, 4
TABLE = EnvironmentFacts(fps=10.0, max_steps=60, cameras={}, action_names=("x",), tasks=())


def chunk(number: int) -> np.ndarray:
    """Action k of chunk n is (n, k)."""
    return np.array([[number, k] for k in range(HORIZON)], np.float32)


def carried_out(chunking: Any, delay: int, executed: int, motions: tuple[bool, ...] = ()) -> list[list[int]]:
    course = Course(chunking, delay, executed, motions)
    return [action.tolist() for look in range(1, LOOKS + 1) for action in course.until_next_look(chunk(look))]


def test_without_a_delay_every_way_is_the_same() -> None:
    expected = [[n, k] for n in range(1, LOOKS + 1) for k in range(3)]
    for chunking in ("synchronous", "naive", "guided", "trained"):
        assert carried_out(chunking, 0, 3) == expected


def test_the_old_chunk_bridges_the_delay() -> None:
    """Look at 0, 4, 8, 12; chunk 2, for the look at 4, is there at 6, two of its actions too late."""
    old, new = [[1, 4], [1, 5]], [[2, 2], [2, 3]]
    assert carried_out("naive", 2, 4)[:12] == [
        [1, 0],
        [1, 1],
        [1, 2],
        [1, 3],
        *old,
        *new,
        [2, 4],
        [2, 5],
        [3, 2],
        [3, 3],
    ]


@given(st.integers(0, 5), st.integers(1, 5))
def test_every_action_is_carried_out_at_its_own_time(delay: int, executed: int) -> None:
    """Action k of the chunk for look n belongs to control step n·s + k, whatever the delay."""
    if delay > executed:
        return
    for step, (number, index) in enumerate(carried_out("guided", delay, executed)):
        assert step == (number - 1) * executed + index


def test_a_robot_that_waits_stands_still() -> None:
    assert carried_out("synchronous", 2, 2)[:6] == [[1, 0], [1, 1], [1, 1], [1, 1], [2, 0], [2, 1]]
    moving = carried_out("synchronous", 2, 2, (True, False))
    assert moving[:6] == [[1, 0], [1, 1], [0, 1], [0, 1], [2, 0], [2, 1]]


def test_what_is_left_begins_at_the_look() -> None:
    course = Course("guided", 2, 4, ())
    assert course.underway is None
    course.until_next_look(chunk(1))
    assert course.underway is not None
    assert course.underway.delay == 2
    assert course.underway.actions.tolist() == chunk(1)[4:].tolist()
    waiting = Course("synchronous", 2, 4, ())
    waiting.until_next_look(chunk(1))
    assert waiting.underway is None


@pytest.mark.parametrize(
    ("chunking", "delay", "expected"), [("naive", 2, 3.0), ("naive", 0, 5.0), ("synchronous", 2, 5.0)]
)
def test_the_seam_is_where_a_chunk_takes_over(chunking: Any, delay: int, expected: float) -> None:
    """Each chunk begins where the one before ended its part; chunk 2 is 3 (or 5) away from what was carried out."""
    course = Course(chunking, delay, 4, ())
    first, second = np.zeros((HORIZON, 1), np.float32), np.full((HORIZON, 1), 5.0, np.float32)
    first[5:] = 2.0
    assert course.largest_seam(100) is None
    course.until_next_look(first)
    course.until_next_look(second)
    assert course.largest_seam(100) == [expected]
    assert course.largest_seam(4 + delay) is None, "the episode ended before the new chunk took over"
    assert course.largest_seam(4 + delay + 1) == [expected]


def test_a_chunk_that_arrives_at_the_next_look_takes_over_there() -> None:
    course = Course("naive", 2, 2, ())
    for value in (0.0, 1.0, 1.0):
        course.until_next_look(np.full((HORIZON, 1), value, np.float32))
    assert course.largest_seam(4) is None
    assert course.largest_seam(5) == [1.0]


@pytest.mark.parametrize(
    ("delay", "executed", "told"),
    [(4, 3, "--delay of at most 3"), (4, 7, "at most 10 together"), (6, 6, "at most 10 together")],
)
def test_what_leaves_the_robot_with_nothing_to_do_is_refused(delay: int, executed: int, told: str) -> None:
    rules = replace(rules_of(EvalConfig(delay=delay, chunking="naive"), TABLE, executed))
    with pytest.raises(EvaluationError, match=told):
        require_possible(rules, HORIZON)
    require_possible(replace(rules, chunking="synchronous"), HORIZON)
    require_possible(replace(rules, delay=3, n_action_steps=7), HORIZON)
