from __future__ import annotations

import math

from report_pages import parse_page

from pi05.pages.bars import Bar, bar_chart


def test_bars_have_their_length_their_number_and_what_they_are_compared_with() -> None:
    chart = bar_chart(
        "Error <by> dimension", [Bar("x_m", 0.5, 1.0), Bar("y_m", 1.0)], unit="metres", mark="mean action"
    )
    page = parse_page(str(chart))
    assert page.tags.count("rect") == 2
    assert page.tags.count("g") == 2
    for text in ("Error <by> dimension", "x_m: 0.5; mean action 1", "y_m: 1", "metres", "(the line: mean action)"):
        assert text in page.text
    widths = [float(part.split('"')[0]) for part in chart.split(' width="')[1:]]
    assert math.isclose(widths[1], 2 * widths[0], rel_tol=0.01)
    assert chart.count('class="goal"') == 1


def test_what_is_not_finite_is_left_out_and_nothing_is_a_chart_too() -> None:
    assert bar_chart("a", [Bar("x", math.nan), Bar("y", 1.0, math.nan)], unit="").count("<rect") == 1
    assert "no data yet" in bar_chart("a", [Bar("x", math.inf)], unit="")
    assert "no data yet" in bar_chart("a", [], unit="")
    assert bar_chart("a", [Bar("x", 0.0)], unit="").count("<rect") == 1


def test_long_names_are_cut_but_told_to_the_mouse() -> None:
    name = "observation.images.the_left_shoulder_camera"
    page = parse_page(str(bar_chart("a", [Bar(name, 1.0)], unit="")))
    assert f"{name}: 1" in page.text
    assert "observation.images.the_…" in page.text
