"""The frame itself."""

from __future__ import annotations

import numpy as np

from pi05.doctor.probes.rendering_child import draw_tabletop, shows_something


def test_the_table_top_is_drawn() -> None:
    assert shows_something(draw_tabletop())


def test_a_picture_of_one_colour_shows_nothing() -> None:
    blank = np.zeros((4, 4, 3), np.uint8)
    drawn = blank.copy()
    drawn[1, 1] = 9
    assert shows_something(drawn)
    assert not shows_something(blank)
    assert shows_something({"observation.images.top": drawn, "observation.state": np.zeros(3), "task": "x"})
    assert not shows_something({"a": drawn, "b": blank})
    assert not shows_something({"observation.state": np.zeros(3)})
