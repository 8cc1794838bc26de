"""Fields of foreign JSON: types, ranges, what must be there, and how a fault is told."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required, TypedDict

import pytest

from pi05.settings.fields import Fault, Within, find_fault, shown


class Inner(TypedDict, total=False):
    rate: Annotated[float, Within(1, 10)]


class Outer(TypedDict, total=False):
    name: Required[str]
    inner: list[Inner] | None
    many: dict[str, int]
    word: Literal["a", "b"]
    few: Annotated[list[int], Within(1, 2)]


@pytest.mark.parametrize(
    "value",
    [
        {"name": "x"},
        {"name": "x", "unknown": object()},
        {"name": "x", "inner": None, "many": {}, "word": "b", "few": [1]},
        {"name": "x", "inner": [{}, {"rate": 1}, {"rate": 9.5}]},
    ],
)
def test_sound_values_pass(value: dict[str, Any]) -> None:
    assert find_fault(Outer, value) is None


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], ""),
        ({}, "name"),
        ({"name": None}, "name"),
        ({"name": "x", "inner": [{}, {"rate": 0.5}]}, "inner[1].rate"),
        ({"name": "x", "inner": [{"rate": True}]}, "inner[0].rate"),
        ({"name": "x", "inner": [{"rate": float("nan")}]}, "inner[0].rate"),
        ({"name": "x", "inner": [{"rate": 10**400}]}, "inner[0].rate"),
        ({"name": "x", "many": {"a": 1.0}}, "many.a"),
        ({"name": "x", "many": {"a": True}}, "many.a"),
        ({"name": "x", "word": "c"}, "word"),
        ({"name": "x", "few": []}, "few"),
        ({"name": "x", "few": [1, 2, 3]}, "few"),
        ({"name": "x", "inner": 5}, "inner"),
    ],
)
def test_a_fault_names_its_place(value: Any, field: str) -> None:
    fault = find_fault(Outer, value)
    assert fault is not None
    assert fault.field == field


def test_a_fault_says_what_was_wanted_and_found() -> None:
    assert find_fault(Outer, {"name": "x", "inner": [{"rate": 11}]}) == Fault(
        "inner[0].rate", "a finite number 1 to 10", "11"
    )
    assert find_fault(Outer, {"name": 3}) == Fault("name", "text", "3")


def test_what_is_shown_is_short() -> None:
    assert len(shown("x" * 10**6)) < 100
    assert shown([1] * 500) == "a list of 500"
    assert shown({"a": 1}) == "an object with 1 names"
    assert shown(None) == "null"
