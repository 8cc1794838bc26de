"""Shapes cover the area that they should, in the right place, at every size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pi05.sim.drawing import Shape, View, paint

WHITE = (255.0, 255.0, 255.0)
BLACK = (0.0, 0.0, 0.0)


def area(kind: str, size: int, radius: float = 0.1) -> float:
    """Return the covered area in m²; edges count by their share."""
    picture = paint(View(0, 0, 0.5, size), BLACK, [Shape(kind, 0.02, -0.03, radius, WHITE)])
    return float(picture[..., 0].sum() / 255 / size**2)


@pytest.mark.parametrize("size", [48, 200])
def test_a_disc_has_its_area(size: int) -> None:
    assert area("disc", size) == pytest.approx(math.pi * 0.01, rel=0.02)


@pytest.mark.parametrize("kind", ["square", "star", "bar"])
def test_areas_do_not_depend_on_the_resolution(kind: str) -> None:
    assert area(kind, 48) == pytest.approx(area(kind, 480), rel=0.06)


def test_up_in_the_picture_is_the_far_side_of_the_table() -> None:
    picture = paint(View(0, 0, 0.5, 50), BLACK, [Shape("disc", 0.25, 0.25, 0.05, WHITE)])
    rows, columns = np.nonzero(picture[..., 0])
    assert rows.mean() == pytest.approx(12, abs=1)
    assert columns.mean() == pytest.approx(37, abs=1)


def test_what_lies_outside_the_view_is_not_drawn() -> None:
    picture = paint(View(0, 0, 0.1, 32), BLACK, [Shape("disc", 0.5, 0.0, 0.05, WHITE)])
    assert not picture.any()


def test_later_shapes_cover_earlier_ones_and_light_scales() -> None:
    shapes = [Shape("disc", 0, 0, 0.3, WHITE), Shape("disc", 0, 0, 0.1, (100.0, 0.0, 0.0))]
    picture = paint(View(0, 0, 0.5, 33), BLACK, shapes, light=0.5)
    assert tuple(picture[16, 16]) == (50, 0, 0)
    assert tuple(picture[16, 23]) == (128, 128, 128)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="hexagon"):
        paint(View(0, 0, 0.5, 8), BLACK, [Shape("hexagon", 0, 0, 0.1, WHITE)])
