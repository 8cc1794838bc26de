"""Findings are told when they begin, and go to the records in full."""

from __future__ import annotations

from typing import Any

from pi05.finding import warning
from pi05.train.watchers.events import MOST_TOLD, QUIET, Events

DARK = warning("inputs.camera", "the camera has no effect", "the policy is blind", "look at it", {"camera top": 0.0})
OTHER = warning("inputs.camera", "the camera has no effect", "the policy is blind", "look at it", {"camera wrist": 0.0})


def spike(step: int) -> Any:
    return warning("loss.spike", f"spike {step}", "effect", "remedy", {"step": step})


def test_a_finding_is_told_once_however_long_it_lasts() -> None:
    records: list[Any] = []
    events = Events(records.append)
    for step in range(1, 8):
        events.look(("inputs.",), [DARK], step)
    assert [(record["step"], record["name"]) for record in records] == [(1, "inputs.camera")]
    events.look(("inputs.",), [DARK, OTHER], 8)
    assert [record["numbers"] for record in records] == [{"camera top": 0.0}, {"camera wrist": 0.0}]


def test_it_is_told_again_when_it_was_gone_for_a_while() -> None:
    records: list[Any] = []
    events = Events(records.append)
    events.look(("inputs.",), [DARK], 1)
    for step in range(2, 1 + QUIET):
        events.look(("inputs.",), [], step)
    events.look(("inputs.",), [DARK], 10)
    assert len(records) == 1, "what hovers at a threshold is one event"
    for step in range(11, 11 + QUIET):
        events.look(("inputs.",), [], step)
    events.look(("inputs.",), [DARK], 20)
    assert [record["step"] for record in records] == [1, 20]


def test_looks_at_other_subjects_do_not_end_it() -> None:
    records: list[Any] = []
    events = Events(records.append)
    events.look(("inputs.",), [DARK], 1)
    for step in range(2, 20):
        events.look(("loss.",), [], step)
    events.look(("inputs.",), [DARK], 20)
    assert len(records) == 1


def test_a_record_has_the_sentence_what_it_means_and_what_to_do() -> None:
    records: list[Any] = []
    Events(records.append).look(("inputs.",), [DARK], 3)
    assert records == [
        {
            "type": "watch",
            "step": 3,
            "name": "inputs.camera",
            "status": "warning",
            "words": "the camera has no effect",
            "effect": "the policy is blind",
            "remedy": "look at it",
            "numbers": {"camera top": 0.0},
            "text": "warning: the camera has no effect\n  what it means: the policy is blind\n  to do: look at it",
        }
    ]


def test_of_many_spikes_the_console_gets_a_few_and_the_file_all() -> None:
    records: list[Any] = []
    events = Events(records.append)
    for step in range(100, 100 + 2 * MOST_TOLD):
        events.look(("loss.",), [spike(step)], step)
    assert len(records) == 2 * MOST_TOLD
    assert sum("text" in record for record in records) == MOST_TOLD
    assert all(record["words"] for record in records)
