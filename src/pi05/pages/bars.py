"""Horizontal bars as SVG text in the manner of `charts.py`: each beside what it is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pi05.pages.charts import number, ticks
from pi05.pages.labels import bar_label

WIDTH, LABELS, VALUES = 520, 150, 46
TOP, ROW, BOTTOM = 8, 26, 36


@dataclass(frozen=True)
class Bar:
    """One row: a value from 0 on, and a mark at what it is compared with."""

    label: str
    value: float
    mark: float | None = None


def bar_chart(title: str, bars: Sequence[Bar], *, unit: str, mark: str = "", colour: int = 3) -> Markup:
    """Return a figure of bars from 0 on; `mark` says what the marks are. What is not finite is left out."""
    drawn = [bar for bar in bars if math.isfinite(bar.value)]
    if not drawn:
        return Markup('<figure class="chart empty"><figcaption>{}</figcaption><p>no data yet</p></figure>').format(
            title
        )
    marks = [bar.mark for bar in drawn if bar.mark is not None and math.isfinite(bar.mark)]
    steps = ticks(0.0, max([bar.value for bar in drawn] + marks))
    height = TOP + ROW * len(drawn) + BOTTOM
    scale = (WIDTH - LABELS - VALUES) / (steps[-1] or 1.0)
    body = [_grid(steps, scale, height, unit)]
    for place, bar in enumerate(drawn):
        body.append(_row(bar, TOP + ROW * place, scale, mark, colour))
    legend = Markup(' <span class="soft">(the line: {})</span>').format(mark) if mark else ""
    return Markup(
        '<figure class="chart"><figcaption>{}{}</figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></figure>'
    ).format(title, legend, WIDTH, height, title, Markup("").join(body))


def _grid(steps: Sequence[float], scale: float, height: int, unit: str) -> Markup:
    floor = height - BOTTOM
    parts = []
    for step in steps:
        x = LABELS + step * scale
        parts.append(Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x, TOP, floor))
        parts.append(
            Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                x, floor + 15, number(step)
            )
        )
    parts.append(
        Markup('<text class="unit" x="{}" y="{}" text-anchor="end">{}</text>').format(WIDTH - 4, height - 5, unit)
    )
    return Markup("").join(parts)


def _row(bar: Bar, top: float, scale: float, mark: str, colour: int) -> Markup:
    told = f"{bar.label}: {number(bar.value)}"
    if bar.mark is not None:
        told += f"; {mark} {number(bar.mark)}"
    middle, end = top + ROW / 2, LABELS + bar.value * scale
    parts = [
        Markup("<title>{}</title>").format(told),
        bar_label(bar.label, LABELS - 8, middle + 4, LABELS - 8),
        Markup('<rect class="part p{}" x="{}" y="{:.1f}" width="{:.1f}" height="{}" rx="2"/>').format(
            colour, LABELS, top + 5, max(end - LABELS, 0.5), ROW - 10
        ),
        Markup('<text class="tick" x="{:.1f}" y="{:.1f}">{}</text>').format(end + 5, middle + 4, number(bar.value)),
    ]
    if bar.mark is not None and math.isfinite(bar.mark):
        x = LABELS + bar.mark * scale
        parts.append(
            Markup('<line class="goal" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>').format(
                x, top + 1, top + ROW - 1
            )
        )
    return Markup("<g>{}</g>").format(Markup("").join(parts))
