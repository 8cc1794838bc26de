"""Small charts by the dozen, as SVG text: a distribution beside the range it should fill, two curves over a cursor.

Lighter than `charts.py`: no grid and no point answers to the mouse, so that hundreds fit on a page. The cursor is a
line with the class `cursor`, which a page may move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from pi05.pages.charts import number

WIDTH, HEIGHT = 240, 92
TOP, BOTTOM, SIDE = 6, 16, 4
MOST_POINTS = 160
"""Points of a curve; longer ones are thinned by taking every so many."""


def histogram(title: str, counts: Sequence[int], low: float, high: float, remark: str = "") -> Markup:
    """Return a distribution from `low` to `high`, whose first and last bars hold what lies beyond; ±1 is marked."""
    most = max([*counts, 1])
    width, floor = (WIDTH - 2 * SIDE) / len(counts), HEIGHT - BOTTOM
    bars = " ".join(
        f"M{SIDE + i * width:.1f} {floor}v{-(count / most) * (floor - TOP):.1f}h{width * 0.92:.1f}V{floor}z"
        for i, count in enumerate(counts)
        if count
    )

    def x(value: float) -> float:
        return SIDE + (value - low) / (high - low) * (WIDTH - 2 * SIDE)

    marks = Markup("").join(
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x(v), HEIGHT - 3, v)
        for v in (-1, 0, 1)
    )
    return Markup(
        '<figure class="small"><figcaption title="{0}">{0}</figcaption><svg viewBox="0 0 {1} {2}" role="img" '
        'aria-label="{0}"><rect class="band" x="{3:.1f}" y="{4}" width="{5:.1f}" height="{6}"/>'
        '<path class="bars" d="{7}"/>{8}</svg><p class="soft">{9}</p></figure>'
    ).format(title, WIDTH, HEIGHT, x(-1), TOP, x(1) - x(-1), floor - TOP, bars, marks, remark)


def two_curves(title: str, first: Sequence[float], second: Sequence[float]) -> Markup:
    """Return two curves over the same steps: on one scale where they lie together, else each on its own."""
    ranges = [_range(first), _range(second)]
    shared = _lie_together(*ranges)
    if shared:
        both = (min(low for low, _ in ranges), max(high for _, high in ranges))
        ranges = [both, both]
    told = " … ".join(number(value) for value in ranges[0])
    remark = f"both {told}" if shared else f"{told}; {' … '.join(number(value) for value in ranges[1])}"
    lines = Markup("").join(
        Markup('<polyline class="line c{}" points="{}"/>').format(i + 1, _points(values, *ranges[i]))
        for i, values in enumerate((first, second))
    )
    return Markup(
        '<figure class="small"><figcaption title="{0}">{0}</figcaption><svg viewBox="0 0 {1} {2}" role="img" '
        'aria-label="{0}">{3}<line class="cursor" x1="{4}" x2="{4}" y1="{5}" y2="{6}"/></svg>'
        '<p class="soft">{7}</p></figure>'
    ).format(title, WIDTH, HEIGHT, lines, SIDE, TOP, HEIGHT - BOTTOM, remark)


def _range(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 0.0)


def _lie_together(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Say whether the ranges are alike: neither three times as wide as the other, and they overlap."""
    widths = sorted(high - low for low, high in (first, second))
    overlap = min(first[1], second[1]) - max(first[0], second[0])
    return widths[1] <= 3 * widths[0] and overlap >= 0


def _points(values: Sequence[float], low: float, high: float) -> str:
    every = max(1, math.ceil(len(values) / MOST_POINTS))
    wide, high_px = (WIDTH - 2 * SIDE) / max(1, len(values) - 1), (HEIGHT - BOTTOM - TOP) / ((high - low) or 1.0)
    return " ".join(
        f"{SIDE + i * wide:.1f},{HEIGHT - BOTTOM - (values[i] - low) * high_px:.1f}"
        for i in range(0, len(values), every)
        if math.isfinite(values[i])
    )
