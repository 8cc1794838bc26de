"""Which frames are looked at, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from check_subjects import scene, write_set

from pi05.check.pictures.looks import MOMENTS, moments, shrink, take_looks

FRONT = "observation.images.front"


def test_moments_reach_from_the_first_frame_to_the_last(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", episodes=2, length=17, cameras=("front",))
    assert moments(dataset, 1) == [17, 21, 25, 29, 33]
    assert moments(dataset, 0, 100) == list(range(17))


def test_what_is_kept_is_what_the_pictures_show(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", episodes=2, length=17, cameras=("front",))
    found = take_looks(dataset, [0, 1], [FRONT], lambda *_: None)
    pictures = [scene("front", 1, frame) for frame in (0, 4, 8, 12, 16)]
    look = found.of(FRONT)[1]
    assert (look.episode, look.flat, len(found.of(FRONT)), found.twins) == (1, 0, 2, [])
    assert look.brightness == pytest.approx(np.mean(pictures), abs=3)
    assert look.colour == pytest.approx(np.mean(pictures, axis=(0, 1, 2)), abs=6)
    assert look.change > 5
    assert len(pictures) == MOMENTS


def test_a_picture_is_averaged_not_sampled() -> None:
    lines = np.zeros((96, 96, 3), np.uint8)
    lines[:, ::2] = 200
    assert (shrink(lines) == 100).all()
