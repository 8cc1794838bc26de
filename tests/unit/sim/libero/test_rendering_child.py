"""The frame itself, where MuJoCo is installed."""

from __future__ import annotations

import pytest
from libero_here import needs_libero

from pi05.sim.libero.rendering import draw_with, find_way


@needs_libero
@pytest.mark.process
def test_a_ball_is_drawn_by_one_of_the_libraries() -> None:
    assert find_way(draw_with, None).way is not None


@needs_libero
@pytest.mark.process
def test_a_library_that_is_none_says_why() -> None:
    assert "nonsense" in str(draw_with("nonsense"))
