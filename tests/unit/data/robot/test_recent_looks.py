from __future__ import annotations

import numpy as np

from pi05.data.robot.camera_view import EXCHANGED
from pi05.data.robot.recent_looks import LOOKS, SAME, RecentLooks

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


def picture(value: int, noise: int = 0) -> np.ndarray:
    grey = np.full((8, 8, 3), value, np.uint8)
    grey[3, 4] += noise
    return grey


def test_a_look_that_shows_the_same_is_counted_once() -> None:
    """A right camera whose first picture looks turned: its robot is refused, stands still, and asks again and again."""
    seen, noise = RecentLooks(), np.random.default_rng(0)
    for _ in range(50):
        assert seen.usually("top", [DOWN], picture(100, int(noise.integers(SAME + 1)))) == (DOWN,)
    assert seen.usually("top", [], picture(110)) == ()  # the arm was moved
    assert seen.usually("top", [DOWN], picture(120)) == (DOWN,)  # 2 of 3
    assert seen.usually("top", [], picture(130)) == ()
    assert seen.usually("top", [DOWN], picture(130)) == ()  # the same look, noted already
    assert seen.usually("top", [], picture(140)) == ()
    assert seen.usually("top", [DOWN], picture(150)) == ()  # 3 of 6


def test_a_turned_camera_is_told_as_soon_as_most_of_its_different_looks_are_so() -> None:
    seen = RecentLooks()
    for _ in range(50):
        assert seen.usually("top", [], picture(100)) == ()
    assert seen.usually("top", [DOWN, EXCHANGED], picture(120)) == ()  # 1 of 2
    assert seen.usually("top", [DOWN, EXCHANGED], picture(140)) == (DOWN, EXCHANGED)
    assert seen.usually("wrist", [DOWN], picture(140)) == (DOWN,)  # another camera with the same picture


def test_a_slow_change_is_another_look_in_the_end() -> None:
    seen = RecentLooks()
    assert seen.usually("top", [], picture(100)) == ()
    told = [seen.usually("top", [DOWN], picture(100 + i)) for i in range(1, 3 * SAME)]
    assert told == [()] * (2 * SAME + 1) + [(DOWN,)] * (SAME - 2)  # at twice four more and two it is 2 of 3


def test_colours_and_turns_and_cameras_are_counted_apart() -> None:
    seen = RecentLooks()
    assert seen.usually("top", [DOWN, EXCHANGED]) == (DOWN, EXCHANGED)
    assert seen.usually("top", [EXCHANGED]) == (EXCHANGED,)
    assert seen.usually("top", []) == ()
    assert seen.usually("wrist", [DOWN]) == (DOWN,)
    assert seen.usually("top", [DOWN]) == ()  # 2 of 4 looks
