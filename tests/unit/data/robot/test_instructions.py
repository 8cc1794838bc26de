from __future__ import annotations

import pytest

from pi05.data.robot.instructions import MOST, instructions_of, require_heard, unheard
from pi05.errors import DataError

SOUP, CAN = "pick up the soup", "pick up the can"


def test_instructions_are_kept_once() -> None:
    assert instructions_of([SOUP, CAN, SOUP]) == (CAN, SOUP)


def test_a_language_is_not_kept() -> None:
    assert len(instructions_of(str(i) for i in range(MOST))) == MOST
    assert instructions_of(str(i) for i in range(MOST + 1)) == ()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            "Pick up the soup.",
            "the instruction is 'Pick up the soup.', not one of the training's 2; nearest: 'pick up the soup'",
        ),
        ("", "the instruction is the empty one, not one of the training's 2"),
        ("dance", "the instruction is 'dance', not one of the training's 2"),
    ],
)
def test_other_words_are_told_with_those_of_the_training_that_are_nearest(asked: str, told: str) -> None:
    assert str(unheard(asked, (CAN, SOUP))).startswith(told)


def test_a_policy_of_one_instruction_says_it() -> None:
    assert str(unheard("dance", (SOUP,))) == (
        "the instruction is 'dance', not the only one of the training: 'pick up the soup'"
    )


def test_nothing_is_said_where_the_training_is_not_known() -> None:
    assert unheard("dance", ()) is None
    require_heard(None)


def test_a_very_long_instruction_is_told_short() -> None:
    assert len(str(unheard("a" * 10**6, (SOUP, CAN)))) < 500


def test_among_many_none_is_looked_for() -> None:
    many = instructions_of(f"pick up thing {i}" for i in range(900))
    assert str(unheard("pick up thing 900", many)).endswith("not one of the training's 900")


def test_a_refusal_says_what_to_ask() -> None:
    with pytest.raises(DataError, match=r"(?s)not trained on this instruction.*nearest: 'pick up the can'.*--strict"):
        require_heard(unheard("pick up a can", (CAN, "fold the shirt")))
