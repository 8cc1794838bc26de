"""What the trackers' sinks share."""

from __future__ import annotations

import time

from pi05.train.records.tracker import first_line, flatten, numbers_of, within


def test_flatten_keeps_numbers_only() -> None:
    record = {"a": 1, "b": {"c": 2.5, "d": {"e": 3}}, "text": "x", "list": [1], "flag": True, "none": None}
    assert flatten(record) == [("a", 1), ("b/c", 2.5), ("b/d/e", 3)]


def test_within_gives_up() -> None:
    def fail() -> None:
        raise ValueError

    assert within(lambda: None, 5)
    assert not within(lambda: time.sleep(1), 0.05)
    assert not within(fail, 5)


def test_numbers_carry_the_type_of_their_record() -> None:
    record = {"type": "eval", "step": 7, "text": "x", "action_error": 0.5, "dimensions": {"x": {"error": 1}}}
    assert numbers_of(record) == {"eval/action_error": 0.5, "eval/dimensions/x/error": 1}


def test_an_error_is_told_in_one_line() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
