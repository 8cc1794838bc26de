from __future__ import annotations

from pi05.data.robot.camera_view import EXCHANGED
from pi05.data.robot.recent_looks import LOOKS, RecentLooks

DOWN, MIRRORED = "upside down", "mirrored top to bottom"


def told(*looks: str) -> list[str]:
    """Return what is told after each look; "" is one that stands as in training."""
    seen = RecentLooks()
    return [" ".join(seen.usually("top", [look] if look else [])) for look in looks]


def test_a_camera_that_is_turned_is_told_from_the_first_look_on() -> None:
    assert told(*[DOWN] * 5) == [DOWN] * 5


def test_some_looks_among_many_are_not_told() -> None:
    """As it is with a camera on the wrist, in a scene that was not trained on."""
    assert told("", DOWN, "", DOWN, "", "", MIRRORED, MIRRORED) == [""] * 8


def test_a_camera_that_is_turned_later_is_told_when_most_looks_show_it() -> None:
    found = told(*[""] * 100, *[DOWN] * LOOKS)
    assert found[: 100 + LOOKS // 2] == [""] * (100 + LOOKS // 2)
    assert found[100 + LOOKS // 2 :] == [DOWN] * (LOOKS - LOOKS // 2)


def test_one_that_was_set_right_is_not_told_any_more() -> None:
    assert told(DOWN, DOWN, "", "", "", DOWN) == [DOWN, DOWN, "", "", "", ""]


def test_of_several_turns_the_commonest_is_told() -> None:
    """A view that is the same from left to right stands on its head, or is mirrored: both set it right."""
    assert told(DOWN, DOWN, MIRRORED, "", DOWN) == [DOWN, DOWN, DOWN, "", DOWN]


def test_colours_and_turns_and_cameras_are_counted_apart() -> None:
    seen = RecentLooks()
    assert seen.usually("top", [DOWN, EXCHANGED]) == (DOWN, EXCHANGED)
    assert seen.usually("top", [EXCHANGED]) == (EXCHANGED,)
    assert seen.usually("top", []) == ()
    assert seen.usually("wrist", [DOWN]) == (DOWN,)
    assert seen.usually("top", [DOWN]) == ()  # 2 of 4 looks
