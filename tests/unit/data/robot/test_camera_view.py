"""A camera's view: turned and mirrored pictures and exchanged colours are told where they can be, and never of sound
pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pi05.data.robot.camera_view import EXCHANGED, FEWEST_FRAMES, UNDONE_BY, CameraView, shrink, view_of
from pi05.errors import DataError

Frames = Callable[[int, int], np.ndarray]
TURNED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **UNDONE_BY,
    "turned to the left": np.rot90,
    "turned to the right": lambda picture: np.rot90(picture, -1),
}


def seen(episode: int, frame: int) -> np.ndarray:
    """Return a wooden table under a lamp at its left, a dark robot at its lower right, and a block that moves."""
    down, across = np.mgrid[0:32, 0:32] / 32
    picture = (200 - 110 * across - 40 * down)[..., None] * (1.0, 0.8, 0.55)
    picture[18:30, 22:30] = 30
    top, left = (7 * episode + frame) % 24, (5 * episode + frame // 2) % 24
    picture[top : top + 6, left : left + 6] = (60, 90, 190)
    return np.clip(picture, 0, 255).astype(np.uint8)


def learned(frames: Frames = seen, episodes: int = 6) -> CameraView:
    view = view_of([[frames(episode, frame) for frame in range(0, 60, 6)] for episode in range(episodes)])
    assert view is not None
    return view


@pytest.mark.parametrize("turn", UNDONE_BY)
def test_how_a_picture_stands_is_told_by_name(turn: str) -> None:
    view = learned()
    assert turn in view.turns
    for frame in (3, 30, 57):
        later = seen(9, frame)
        assert view.differences(later) == ()
        assert view.differences(np.ascontiguousarray(TURNED[turn](later))) == (turn,)
        assert np.array_equal(UNDONE_BY[turn](TURNED[turn](later)), later)


def test_red_for_blue_alone_and_in_a_turned_picture() -> None:
    view = learned()
    assert view.coloured
    assert view.differences(seen(9, 30)[..., ::-1]) == (EXCHANGED,)
    assert view.differences(seen(9, 30)[::-1, ::-1, ::-1]) == ("upside down", EXCHANGED)


@pytest.mark.parametrize("gain", [0.6, 1.2])
def test_another_light_is_no_difference(gain: float) -> None:
    """Darker, brighter, and with the white balance of another lamp."""
    view = learned()
    for tint in ((1, 1, 1), (1, 0.95, 0.9), (0.9, 0.95, 1)):
        lit = np.clip(seen(9, 12) * gain * np.array(tint), 0, 255).astype(np.uint8)
        assert view.differences(lit) == ()


def test_pictures_in_floats_are_the_same_pictures() -> None:
    view = learned()
    picture = seen(9, 12)[::-1]
    assert view.differences(picture.astype(np.float32) / 127.5 - 1) == view.differences(picture)
    assert np.abs(shrink(picture.astype(np.float32) / 127.5 - 1).astype(int) - shrink(picture)).max() <= 1


def test_of_what_does_not_tell_nothing_is_said() -> None:
    """A table of one colour with a block anywhere on it looks the same from all sides; grey has no red and blue."""

    def table(episode: int, frame: int) -> np.ndarray:
        picture = np.full((32, 32, 3), 120, np.uint8)
        top, left = np.random.default_rng([episode, frame]).integers(0, 24, 2)
        picture[top : top + 8, left : left + 8] = 220
        return picture

    view = learned(table)
    assert (view.turns, view.coloured) == ((), False)
    assert view.differences(table(9, 1)[::-1, ::-1, ::-1]) == ()
    half = learned(lambda episode, frame: np.maximum(table(episode, frame), table(episode, frame)[:, ::-1]))
    assert "mirrored left to right" not in half.turns


def test_a_camera_that_was_turned_in_some_episodes_is_not_judged_by() -> None:
    view = learned(lambda episode, frame: seen(episode, frame)[::-1, ::-1] if episode == 2 else seen(episode, frame))
    assert "upside down" not in view.turns


def test_too_few_pictures_make_no_view() -> None:
    assert view_of([[seen(0, frame)] * 30 for frame in (1, 2)]) is None
    assert view_of([[seen(episode, 1)] * (FEWEST_FRAMES // 5) for episode in range(4)]) is None


def test_a_view_survives_being_written() -> None:
    view = learned()
    again = CameraView.from_dict(view.to_dict())
    assert again.to_dict() == view.to_dict()
    assert np.array_equal(again.mean, view.mean)
    assert again.differences(seen(9, 30)[::-1]) == ("mirrored top to bottom",)
    for text in ("zz", "00", ""):
        with pytest.raises(DataError, match="cameras' pictures cannot be read"):
            CameraView.from_dict(view.to_dict() | {"mean": text})
    for missing in ("spread", "turns", "coloured"):
        with pytest.raises(DataError, match="cameras' pictures cannot be read"):
            CameraView.from_dict({name: value for name, value in view.to_dict().items() if name != missing})
    with pytest.raises(DataError, match="cameras' pictures cannot be read"):
        CameraView.from_dict(view.to_dict() | {"turns": 3})
