"""The task list as the frames have it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pi05.check.fix.tasks import count_tasks, mend_tasks, spelling


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("pick up the cube", "Pick_up the  cube.", True),
        (" fold towel", "fold towel", True),
        ("pick up the cube", "pick up the cubes", False),
        ("put it in the box", "put it into the box", False),
        ("open!", "open", False),
        ("place cup 1", "place cup 2", False),
    ],
)
def test_what_is_one_text(one: str, other: str, same: bool) -> None:
    assert (spelling(one) == spelling(other)) is same


def test_the_spelling_of_most_frames_stays() -> None:
    listed = {0: "Grasp_cube", 1: "grasp cube", 2: "open the drawer"}
    shown = {0: Counter({0: 10}), 1: Counter({1: 30}), 2: Counter({2: 5})}
    tasks = mend_tasks(listed, shown, {}, renumber=True)
    assert tasks.texts == {0: "grasp cube", 1: "open the drawer"}
    assert tasks.number == {0: 0, 1: 0, 2: 1}
    assert tasks.joined == [("Grasp_cube", "grasp cube")]
    kept = mend_tasks(listed, shown, {}, renumber=False)
    assert (kept.texts, kept.number) == (listed, {0: 1, 1: 1, 2: 2})


def test_nothing_to_mend_changes_no_number() -> None:
    listed = {0: "a task", 1: "never shown", 2: "another"}
    tasks = mend_tasks(listed, {0: Counter({0: 3, 2: 1})}, {0: ["a task"]}, renumber=True)
    assert (tasks.texts, tasks.number, tasks.joined, tasks.added) == (listed, {0: 0, 1: 1, 2: 2}, [], [])


def test_a_missing_text_comes_from_the_episode_list_only_where_that_is_clear() -> None:
    shown = {0: Counter({5: 10}), 1: Counter({5: 7})}
    assert mend_tasks({}, shown, {0: ["push"], 1: ["push"]}, renumber=False).texts == {5: "push"}
    assert mend_tasks({}, shown, {0: ["push"], 1: ["pull"]}, renumber=False).texts == {}
    assert mend_tasks({}, shown, {0: ["push", "pull"], 1: ["push", "pull"]}, renumber=False).texts == {}
    mixed = {0: Counter({5: 10, 6: 1})}
    assert mend_tasks({6: "pull"}, mixed, {0: ["push"]}, renumber=False).texts == {6: "pull"}


def test_counts() -> None:
    assert count_tasks(np.array([2, 0, 2, 2], np.float64)) == Counter({2: 3, 0: 1})
