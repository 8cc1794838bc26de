from __future__ import annotations

import math
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from pi05.pages.charts import Series, line_chart, log_ticks, number, smooth, thin, ticks

values = st.floats(-1e9, 1e9).map(lambda v: round(v, 6))


@settings(max_examples=50, deadline=None)
@given(values, values)
def test_ticks_are_round_and_enclose(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    found = ticks(low, high)
    assert 2 <= len(found) <= 13
    invisible = 1e-8 * (found[-1] - found[0])  # less than any pixel
    assert found[0] <= low + invisible
    assert found[-1] >= high - invisible
    step = found[1] - found[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - factor) for factor in (1, 2, 5, 10)) < 1e-3


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-8, 1e8), st.floats(1, 1e6))
def test_logarithmic_ticks_enclose(low: float, ratio: float) -> None:
    found = log_ticks(low, low * ratio)
    assert found == sorted(found)
    assert found[0] <= low * 1.0001
    assert found[-1] >= low * ratio * 0.9999
    assert len(found) <= 12


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=300), st.integers(2, 50))
def test_thinning_keeps_the_ends_and_the_mean(ys: list[float], most: int) -> None:
    points = [(float(x), y) for x, y in enumerate(ys)]
    thinned = thin(points, most)
    assert len(thinned) <= max(most, 1)
    assert thinned[-1] == points[-1]
    assert min(ys) - 1e-9 <= min(y for _, y in thinned)
    assert max(y for _, y in thinned) <= max(ys) + 1e-9


def test_smoothing_is_a_trailing_mean() -> None:
    points = [(float(i), float(v)) for i, v in enumerate([2, 4, 6, 8])]
    assert smooth(points, 2) == [(0, 2), (1, 3), (2, 5), (3, 7)]
    assert smooth(points, 1) == points


def test_numbers_are_short() -> None:
    written = [number(v) for v in (0, 0.12345, 1234.5678, 12_345.6, 2_500_000, 2.5e-5, -1e-4)]
    assert written == ["0", "0.1235", "1235", "12.35k", "2.5M", "2.5e-5", "-1e-4"]


def test_a_chart_places_points_between_its_axes() -> None:
    text = str(line_chart("Loss", [Series("", [(0, 1.0), (100, 0.0)])], x_label="step", y_label="loss"))
    assert 'points="52.0,34.0 506.0,208.0"' in text
    assert "<title>1 at step 0</title>" in text


def test_values_that_are_not_finite_are_not_drawn() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, math.inf), (3.0, 0.5)]
    text = str(line_chart("x", [Series("", points)], x_label="step", y_label="y", log=True))
    assert text.count("<circle") == 2
    assert "nan" not in text
    assert "no data yet" in str(line_chart("x", [Series("", points[1:3])], x_label="step", y_label="y"))


def test_text_is_escaped() -> None:
    text = str(line_chart("<b>", [Series("<i>", [(0, 1), (1, 2)])], x_label="&", y_label="<u>"))
    assert not any(tag in text for tag in ("<b>", "<i>", "<u>"))


def test_a_chart_may_leave_zero_out_and_mark_a_place() -> None:
    series = [Series("recorded", [(0, 1.2), (10, 1.3)], 0)]
    whole = str(line_chart("Joint", series, x_label="seconds", y_label="rad"))
    close = str(line_chart("Joint", series, x_label="seconds", y_label="rad", from_zero=False, mark=(5, "here <")))
    assert ">0</text>" in whole.split("seconds")[0]
    assert close.count(">0</text>") == 1  # of the x axis alone
    assert 'class="line c0"' in close
    assert "here &lt;" in close
    assert "here" not in str(line_chart("Joint", series, x_label="s", y_label="rad", mark=(11, "here")))


def test_names_that_do_not_fit_beside_the_label_stand_below_the_chart() -> None:
    points = [(0.0, 1.0), (1.0, 2.0)]
    few = line_chart("A", [Series("one", points), Series("two", points, 2)], x_label="step", y_label="error")
    names = ["policy", "mean action", "holding the last action", "holding the state", "nearest training frame"]
    many = line_chart("A", [Series(name, points) for name in names], x_label="step", y_label="standard deviations")
    heights = [int(re.search(r'viewBox="0 0 520 (\d+)"', chart)[1]) for chart in (few, many)]  # type: ignore[index]
    assert heights[1] > heights[0] == 250
    placed = {name: (float(x), int(y)) for x, y, name in re.findall(r'x="([-\d.]+)" y="(\d+)">([^<]+)<', many)}
    assert all(0 <= placed[name][0] < 520 and 250 < placed[name][1] < heights[1] for name in names)
    assert len({placed[name] for name in names}) == len(names)
