from __future__ import annotations

import math
import re

from pi05.pages.wide_bars import Bar, value_bars


def test_bars_are_in_proportion_and_say_their_value() -> None:
    text = str(value_bars("<Error>", [Bar("A & B", 2.0, 3, "of it"), Bar("none", math.nan), Bar("half", 1.0, 0)]))
    assert "&lt;Error&gt;" in text
    assert "A &amp; B: 2 of it" in text
    widths = [float(width) for width in re.findall(r'<rect class="bar b\d" [^>]*width="([\d.]+)"', text)]
    assert widths[0] == 2 * widths[2]
    assert widths[1] == 1.0
    assert "none: –" in text


def test_a_threshold_stands_where_it_is_even_beyond_the_bars() -> None:
    text = str(value_bars("Moved", [Bar("camera", 0.0)], threshold=(0.02, "below 0.02: not read")))
    assert 'class="goal" x1="710.0"' in text  # the right end
    assert "below 0.02: not read" in text
