"""Values as horizontal SVG bars with full labels, the longest of them as wide as the drawing; a threshold as a line.

Leaves out success rates, which have intervals (`eval/rate_charts.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pi05.pages.charts import number
from pi05.pages.labels import bar_label

ROW, LABEL, WIDTH, ROOM = 28, 330, 860, 150
"""Height of a bar with its gap, width of labels, of the drawing, and of what stands behind a bar (px)."""


@dataclass(frozen=True)
class Bar:
    """One bar; `colour` is 1 to 6, or 0 for grey, `words` stand behind its value."""

    label: str
    value: float
    colour: int = 1
    words: str = ""


def value_bars(title: str, bars: Sequence[Bar], *, threshold: tuple[float, str] | None = None) -> Markup:
    """Return the bars from zero on; a value that is not finite has no bar. `threshold` is a value with its words."""
    span = WIDTH - LABEL - ROOM
    values = [bar.value for bar in bars if math.isfinite(bar.value)]
    most = max([*values, *([threshold[0]] if threshold else [])], default=0.0) or 1.0
    top = 22 if threshold else 4
    height = top + ROW * len(bars) + 4
    body = [_row(bar, top + ROW * i + ROW / 2, span, most) for i, bar in enumerate(bars)]
    if threshold is not None:
        x = LABEL + span * threshold[0] / most
        body.append(
            Markup(
                '<line class="goal" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/><text class="tick" x="{3:.1f}" y="12">'
                "{4}</text>"
            ).format(x, top - 4, height, x + 4, threshold[1])
        )
    return Markup(
        '<figure class="chart"><figcaption>{}</figcaption><svg class="bars" viewBox="0 0 {} {}" role="img" '
        'aria-label="{}">{}</svg></figure>'
    ).format(title, WIDTH, height, title, Markup("").join(body))


def _row(bar: Bar, middle: float, span: int, most: float) -> Markup:
    there = math.isfinite(bar.value)
    width = span * bar.value / most if there else 0.0
    told = f"{number(round(bar.value, 4))} {bar.words}".rstrip() if there else "–"
    return Markup(
        "<g><title>{0}: {1}</title>"
        '{2}<rect class="bar b{4}" x="{5}" y="{6:.1f}" width="{7:.1f}" height="15" rx="3"/>'
        '<text class="label" x="{8:.1f}" y="{3:.1f}">{1}</text></g>'
    ).format(
        bar.label,
        told,
        bar_label(bar.label, LABEL - 12, middle + 4, LABEL - 12),
        middle + 4,
        bar.colour,
        LABEL,
        middle - 8,
        max(width, 1.0),
        LABEL + max(width, 1.0) + 8,
    )
