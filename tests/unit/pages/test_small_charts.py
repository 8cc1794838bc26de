"""Distributions and curves as SVG: what is drawn where."""

from __future__ import annotations

import math
import re

from pi05.pages.small_charts import BOTTOM, HEIGHT, MOST_POINTS, SIDE, TOP, WIDTH, histogram, two_curves


def bars(text: str) -> list[tuple[float, float]]:
    """Return place and height of each bar."""
    return [(float(x), -float(h)) for x, h in re.findall(r"M([\d.]+) \d+v(-[\d.]+)", text)]


def curves(text: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'points="([^"]*)"', text)
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in line.split())] for line in found]


def test_the_highest_bar_fills_the_chart_and_empty_ones_are_left_out() -> None:
    drawn = bars(histogram("a", [0, 5, 10, 0], -2, 2))
    width = (WIDTH - 2 * SIDE) / 4
    assert [x for x, _ in drawn] == [round(SIDE + width, 1), round(SIDE + 2 * width, 1)]
    assert [height for _, height in drawn] == [(HEIGHT - BOTTOM - TOP) / 2, HEIGHT - BOTTOM - TOP]


def test_the_band_reaches_from_minus_one_to_one() -> None:
    x, width = re.search(r'class="band" x="([\d.]+)" y="\d+" width="([\d.]+)"', histogram("a", [1], -2, 2)).groups()  # type: ignore[union-attr]
    assert float(width) == (WIDTH - 2 * SIDE) / 2
    assert float(x) == SIDE + (WIDTH - 2 * SIDE) / 4


def test_curves_that_lie_together_share_a_scale() -> None:
    text = two_curves("a", [0, 1, 2], [1, 2, 1])
    first, second = curves(text)
    assert (first[1][1], first[2][1]) == (second[0][1], second[1][1])
    assert "both 0 … 2" in text


def test_curves_of_other_units_have_a_scale_each() -> None:
    text = two_curves("a", [0, 1, 2], [0, 1000, 2000])
    first, second = curves(text)
    assert first == second
    assert "0 … 2; 0 … 2000" in text


def test_long_curves_are_thinned_and_what_is_no_number_is_left_out() -> None:
    first, second = curves(two_curves("a", list(range(10_000)), [0.0, math.nan, 1.0]))
    assert len(first) <= MOST_POINTS
    assert len(second) == 2
    assert curves(two_curves("a", [], [1.0, 2.0]))[0] == []


def test_names_of_others_are_no_markup() -> None:
    for text in (histogram("<b>", [1], -2, 2, "<i>"), two_curves("<b>", [1], [2])):
        assert "<b>" not in text
        assert "<i>" not in text
