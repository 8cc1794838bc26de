"""Typed plain data: what fits, what is refused, and where the help text comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from pi05.errors import ConfigError
from pi05.settings.schema import Checked, describe, field_docs, fits, from_plain, to_plain, walk


@dataclass(frozen=True, kw_only=True)
class Inner(Checked):
    """A group."""

    FLAG_PREFIX: ClassVar[str] = "inner."

    rate: float = 0.5
    """A rate, per second,
    above 0."""
    names: tuple[str, ...] = ()
    """Some names."""

    def _limits(self) -> None:
        self._require(self.rate > 0, "rate", "above 0")


@dataclass(frozen=True, kw_only=True)
class Outer(Checked):
    """Everything."""

    inner: Inner = field(default_factory=Inner)
    count: int | None = None
    """How many."""
    mode: Literal["a", "b"] = "a"
    """Which of
    the two.
    - a: this, as
      opposed to that.
    - b: that."""
    mapping: dict[str, str] = field(default_factory=dict)
    """What is what."""
    flag: bool = False
    pair: tuple[float, float] = (0.0, 1.0)
    """Two numbers."""


def test_help_is_the_docstring_under_the_field_on_one_line() -> None:
    assert field_docs(Inner) == {"rate": "A rate, per second, above 0.", "names": "Some names."}


def test_the_meaning_of_a_choice_stays_a_line_of_its_own() -> None:
    assert field_docs(Outer)["mode"] == "Which of the two.\n- a: this, as opposed to that.\n- b: that."


def test_walk_opens_groups_and_keeps_the_order() -> None:
    settings = {setting.path: setting for setting in walk(Outer)}
    assert list(settings) == ["inner.rate", "inner.names", "count", "mode", "mapping", "flag", "pair"]
    assert settings["inner.rate"].default == 0.5
    assert settings["flag"].help == ""


def test_plain_data_survives_json() -> None:
    outer = Outer(inner=Inner(rate=0.1, names=("x", "y")), count=3, mode="b", mapping={"k": "v"}, pair=(1.0, 2.0))
    assert from_plain(Outer, json.loads(json.dumps(to_plain(outer)))) == outer


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"count": 1.5}, "--count"),
        ({"count": True}, "--count"),
        ({"count": "3"}, "--count"),
        ({"mode": "c"}, "--mode"),
        ({"flag": 1}, "--flag"),
        ({"flag": None}, "--flag"),
        ({"mapping": {"k": 1}}, "--mapping"),
        ({"pair": [1.0]}, "--pair"),
        ({"pair": [1.0, "x"]}, "--pair"),
        ({"inner": 3}, "--inner"),
        ({"inner": {"rate": float("nan")}}, "--inner.rate"),
        ({"inner": {"rate": float("inf")}}, "--inner.rate"),
        ({"inner": {"rate": -1.0}}, "--inner.rate"),
        ({"inner": {"names": "abc"}}, "--inner.names"),
        ({"inner": {"names": [1]}}, "--inner.names"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_their_flag(values: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_plain(Outer, values)
    assert caught.value.problem.startswith(f"{flag} cannot be ")
    assert caught.value.wanted
    assert caught.value.remedy


def test_an_unknown_name_is_refused_with_its_whole_path() -> None:
    with pytest.raises(ConfigError, match=r"inner\.rat\b"):
        from_plain(Outer, {"inner": {"rat": 1.0}})


def test_whole_numbers_become_floats_but_not_the_other_way_round() -> None:
    rate = from_plain(Outer, {"inner": {"rate": 2}}).inner.rate
    assert rate == 2.0
    assert type(rate) is float
    assert not fits(int, 2.0)


def test_limits_hold_for_direct_construction_too() -> None:
    with pytest.raises(ConfigError, match=r"--inner\.rate cannot be 0\.0"):
        Inner(rate=0.0)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int | None, "a whole number"),
        (tuple[int, ...], "a list of whole numbers"),
        (tuple[float, float], "a list of 2 numbers"),
        (Literal["a", "b"], "a or b"),
        (bool, "true or false"),
    ],
)
def test_types_are_named_in_words(kind: Any, words: str) -> None:
    assert describe(kind) == words
