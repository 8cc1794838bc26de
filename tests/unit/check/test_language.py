"""Tasks: each finding with texts that must trip it and texts that must not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from robot_sets import Recording, real_set, sound_robot

from pi05.check.language import check_language
from pi05.check.subject import Subject
from pi05.finding import Finding


def found(*texts: str, episodes: Sequence[int] | None = None, recording: Recording | None = None) -> dict[str, Finding]:
    subject = (recording or sound_robot(episodes=max(3, len(texts)), seconds=1).changed(texts=texts)).subject(episodes)
    return {finding.name: finding for finding in check_language(subject)}


SOUND = ("pick up the red cube", "Put the plate into the rack.", "open the drawer", "turn the light on", "stack 3 cups")


def test_sound_tasks_are_counted_and_nothing_else() -> None:
    named = found(*SOUND)
    assert set(named) == {"language.tasks"}
    tasks = named["language.tasks"].numbers["tasks"]
    assert {task["text"] for task in tasks} == set(SOUND)
    assert sum(task["episodes"] for task in tasks) == 5


def test_one_task_is_worth_a_note() -> None:
    assert set(found("fold the towel")) == {"language.one_task"}


@pytest.mark.parametrize("text", ["test", "TODO", "Task", "n/a", "default.", "do something", "valid", "x", "?"])
def test_placeholders(text: str) -> None:
    assert found(text, SOUND[0])["language.placeholder"].numbers["tasks"][0]["text"] == text


@pytest.mark.parametrize("text", ["pick up the red …", "put the cup into the", "grasp the lid and", "move it to-"])
def test_cut_off_texts(text: str) -> None:
    assert "language.truncated" in found(text, SOUND[0])


def test_texts_that_end_at_one_length_are_cut_off() -> None:
    long = ("green block " * 12)[:127] + "s"
    assert "language.truncated" in found(long, long[::-1], SOUND[0])
    assert "language.truncated" not in found(long, SOUND[0])


@pytest.mark.parametrize("other", ["Pick up the red cube", "pick_up_the_red_cube", "pick up the  red cube."])
def test_one_task_in_several_spellings(other: str) -> None:
    (group,) = found(SOUND[0], other)["language.spellings"].numbers["groups"]
    assert set(group) == {SOUND[0], other}


def test_underscores() -> None:
    named = found("grasp_cube")
    assert set(named) == {"language.one_task", "language.underscores"}
    assert "'grasp cube'" in named["language.underscores"].text


@pytest.mark.parametrize("text", ["pick up the caf\ufffd", "pick\x07 up the cube"])
def test_characters_that_no_text_has(text: str) -> None:
    assert "language.characters" in found(text, SOUND[0])


def test_texts_that_no_frame_shows_are_named_where_all_episodes_are_used() -> None:
    made = sound_robot(episodes=2, seconds=1).changed(texts=SOUND[:3])
    assert found(recording=made)["language.unused_tasks"].numbers["tasks"] == [SOUND[2]]
    assert "language.unused_tasks" not in found(recording=made, episodes=[0])


def test_episodes_that_are_not_used_tell_nothing() -> None:
    assert "language.placeholder" not in found("test", *SOUND[:2], episodes=[1, 2])


def test_real_tasks() -> None:
    named = {}
    for name in ("cr5_v21_5ep", "cr5_v30_5ep_onefile"):
        dataset = real_set(name)
        named = {f.name: f for f in check_language(Subject(dataset=dataset, episodes=range(5)))}
        assert {name for name, finding in named.items() if finding.to_mend} == {"language.underscores"}
