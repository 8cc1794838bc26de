"""Pictures that stand otherwise than the base knows that camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from check_subjects import SIZE, found, make_subject, write_set

from pi05.check.pictures.family import check_pictures
from pi05.check.subject import Base
from pi05.data.lerobot.reader import Dataset
from pi05.finding import Finding

Change = Callable[[np.ndarray], np.ndarray]


def table(episode: int, frame: int) -> np.ndarray:
    """Return a wooden table under a lamp at its left, a dark robot at its lower right, and a block that moves."""
    down, across = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    picture = (200 - 110 * across - 40 * down)[..., None] * (1.0, 0.8, 0.55)
    picture[18:30, 22:30] = 30
    top, left = (7 * episode + frame) % 24, (5 * episode + frame // 2) % 24
    picture[top : top + 6, left : left + 6] = (60, 90, 190)
    return np.clip(picture, 0, 255).astype(np.uint8)


def written(root: Path, change: Change, first: int = 0) -> Dataset:
    return write_set(
        root / "set",
        cameras=("front",),
        length=16,
        picture=lambda camera, episode, frame: np.ascontiguousarray(change(table(first + episode, frame))),
    )


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a base tells that was trained on pictures as they are."""
    dataset = written(tmp_path_factory.mktemp("base"), lambda picture: picture)
    subject = make_subject(dataset, image_size=SIZE)
    assert subject.recipe is not None
    episodes = [list(range(16 * e, 16 * e + 16)) for e in range(6)]
    processor = subject.recipe.processor.having_seen(lambda i: table(i // 16, i % 16)[None], episodes)
    assert processor.having_seen(lambda i: table(0, 0)[None], episodes) is processor
    return processor.to_dict()


def told(root: Path, change: Change, settings: dict[str, Any]) -> dict[str, Finding]:
    base = Base(path="base", settings=settings)
    subject = make_subject(written(root, change, first=20), base=base)
    return found(check_pictures(subject, lambda *_: None), "warning", "error")


def test_the_same_camera_is_no_finding(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert told(tmp_path, lambda picture: picture, settings) == {}


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda picture: picture[::-1, ::-1], ["upside down"]),
        (lambda picture: picture[..., ::-1], ["with red and blue exchanged"]),
        (lambda picture: picture[:, ::-1, ::-1], ["mirrored left to right", "with red and blue exchanged"]),
    ],
)
def test_pictures_that_are_turned_or_of_other_colours_in_all_episodes(
    tmp_path: Path, settings: dict[str, Any], change: Change, how: list[str]
) -> None:
    warned = told(tmp_path, change, settings)
    assert set(warned) == {"pictures.unlike_base"}
    assert warned["pictures.unlike_base"].numbers["how"] == how
    assert " and ".join(how) in warned["pictures.unlike_base"].text


def test_a_base_that_does_not_tell_and_another_camera_in_the_slot(tmp_path: Path, settings: dict[str, Any]) -> None:
    other = settings | {"slots": settings["slots"] | {"scene": "observation.images.top"}}
    silent = {name: value for name, value in settings.items() if name != "camera_views"}
    upside_down: Change = lambda picture: picture[::-1, ::-1]  # noqa: E731
    for number, base in enumerate((other, silent)):
        assert "pictures.unlike_base" not in told(tmp_path / str(number), upside_down, base)
