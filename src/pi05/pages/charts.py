"""Charts as SVG text, drawn by hand: axes, round ticks, units, a title on each point for the mouse.

Colours come from the page's style sheet (`page.html`), so that a chart follows light and dark. Leaves out every
library: a report must open on a machine without network. Numbers that are not finite are not drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 34, 42
MOST_POINTS = 600
"""A longer series is thinned for drawing: each stretch of it becomes its mean."""
LETTER = 6.6
"""Width of a letter in the legend."""
MOST_TITLES = 80
"""Points that answer to the mouse, in one series."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a chart; `colour` is 1 to 6, or 0 for that of the text, `style` a class of the style sheet."""

    name: str
    points: Sequence[Point]
    colour: int = 1
    style: Literal["line", "faint", "dashed"] = "line"


@dataclass(frozen=True)
class _Axes:
    """The mapping from data to pixels, and where the ticks stand."""

    x_ticks: list[float]
    y_ticks: list[float]
    x_range: Point
    y_range: Point
    log: bool

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = (math.log10(v) if self.log else v for v in self.y_range)
        place = math.log10(max(value, self.y_range[0])) if self.log else value
        return HEIGHT - BOTTOM - (place - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    log: bool = False,
    from_zero: bool = True,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """Return a chart of lines over a common x axis; with `log`, the y axis is logarithmic where all values allow it.

    The y axis holds zero unless `from_zero` is off. `mark` is a dashed upright at an x, with its words.
    """
    drawn = [Series(s.name, _finite(s.points), s.colour, s.style) for s in series]
    drawn = [s for s in drawn if s.points]
    if not drawn:
        return Markup('<figure class="chart empty"><figcaption>{}</figcaption><p>no data yet</p></figure>').format(
            title
        )
    values = [y for s in drawn for _, y in s.points]
    axes = _axes([x for s in drawn for x, _ in s.points], values, log and min(values) > 0, from_zero)
    legend, below = _legend(drawn, y_label)
    body = [_frame(axes, x_label, y_label), legend]
    if mark is not None and axes.x_range[0] <= mark[0] <= axes.x_range[1]:
        body.append(_upright(axes.x(mark[0]), mark[1]))
    for line in drawn:
        path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in thin(line.points, MOST_POINTS))
        body.append(Markup('<polyline class="{} c{}" points="{}"/>').format(line.style, line.colour, path))
        if len(line.points) == 1:
            (x, y) = line.points[0]
            body.append(
                Markup('<circle class="dot c{}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(
                    line.colour, axes.x(x), axes.y(y)
                )
            )
    for line in drawn:
        if line.style != "faint" or len(drawn) == 1:
            body += [_hit(axes, line, x, y, x_label) for x, y in thin(line.points, MOST_TITLES)]
    return Markup(
        '<figure class="chart"><figcaption>{}</figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></figure>'
    ).format(title, WIDTH, HEIGHT + below, title, Markup("").join(body))


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` points: the means of equal stretches, the last point always itself."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * (len(points) - 1) / (most - 1)) for i in range(most)]
    means = []
    for start, stop in itertools.pairwise(edges):
        stretch = points[start:stop]
        means.append((sum(x for x, _ in stretch) / len(stretch), sum(y for _, y in stretch) / len(stretch)))
    return [*means, points[-1]]


def smooth(points: Sequence[Point], window: int) -> list[Point]:
    """Return the mean of each point and its predecessors within the window."""
    return [
        (points[i][0], math.fsum(y for _, y in points[max(0, i - window + 1) : i + 1]) / min(i + 1, window))
        for i in range(len(points))
    ]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) that enclose the range."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten, with 2 and 5 times them over short ranges, that enclose the range."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9)
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    every = max(1, (last - first) // 6)
    values = [f * 10.0**p for p in range(first, last + 1, every) for f in factors]
    inside = [v for v in values if low <= v <= high]
    below, above = [v for v in values if v < low], [v for v in values if v > high]
    return [*below[-1:], *inside, *above[:1]]


def number(value: float) -> str:
    """Return a number as a reader writes it."""
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:,.4g}k" if size < 1_000_000 else f"{value / 1_000_000:,.4g}M"
    if size and size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _axes(xs: Sequence[float], ys: Sequence[float], log: bool, from_zero: bool) -> _Axes:
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    x_ticks = [tick for tick in ticks(x_low, x_high, 7) if x_low <= tick <= x_high]
    if all(x == int(x) for x in xs):  # steps: no tick between two of them
        x_ticks = [tick for tick in x_ticks if tick == int(tick)]
    ends = (min(0.0, *ys), max(0.0, *ys)) if from_zero else (min(ys), max(ys))
    y_ticks = log_ticks(min(ys), max(ys)) if log else ticks(*ends)
    return _Axes(x_ticks, y_ticks, (x_low, x_high), (y_ticks[0], y_ticks[-1]), log)


def _frame(axes: _Axes, x_label: str, y_label: str) -> Markup:
    floor = HEIGHT - BOTTOM
    parts = []
    for tick in axes.y_ticks:
        y = axes.y(tick)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y)
        )
        parts.append(
            Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                LEFT - 8, y + 4, number(tick)
            )
        )
    for tick in axes.x_ticks:
        x = axes.x(tick)
        parts.append(
            Markup('<line class="axis" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x, floor, floor + 4)
        )
        parts.append(
            Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                x, floor + 18, number(tick)
            )
        )
    parts.append(
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, floor, floor)
    )
    parts.append(
        Markup('<text class="unit" x="{}" y="{}" text-anchor="end">{}</text>').format(
            WIDTH - RIGHT, HEIGHT - 6, x_label
        )
    )
    scale = f"{y_label}, logarithmic" if axes.log else y_label
    parts.append(Markup('<text class="unit" x="4" y="14">{}</text>').format(scale))
    return Markup("").join(parts)


def _upright(x: float, words: str) -> Markup:
    to_the_left = x > WIDTH / 2
    return Markup(
        '<line class="goal" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
        '<text class="tick" x="{3:.1f}" y="{4}" text-anchor="{5}">{6}</text>'
    ).format(
        x, TOP, HEIGHT - BOTTOM, x - 5 if to_the_left else x + 5, TOP + 10, "end" if to_the_left else "start", words
    )


def _legend(series: Sequence[Series], y_label: str) -> tuple[Markup, int]:
    """Return the names of the lines, beside the vertical axis' label or below the chart, and how much that adds."""
    named = [s for s in series if s.name]
    if len(named) < 2:
        return Markup(""), 0
    widths = [LETTER * len(line.name) + 38 for line in named]
    x, row, places = WIDTH - RIGHT - sum(widths), 0, list[tuple[float, int]]()
    beside = x > LETTER * len(y_label)
    if not beside:
        x = 0.0
    for width in widths:
        if not beside and x > 0 and x + width > WIDTH - RIGHT:
            x, row = 0.0, row + 1
        places.append((x, 14 if beside else HEIGHT + 10 + 18 * row))
        x += width
    parts = [
        Markup('<line class="{} c{}" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
            line.style, line.colour, x + 16, x + 32, y - 4, y - 4
        )
        + Markup('<text class="tick" x="{:.1f}" y="{}">{}</text>').format(x + 38, y, line.name)
        for line, (x, y) in zip(named, places, strict=True)
    ]
    return Markup("").join(parts), 0 if beside else 18 * (row + 1)


def _hit(axes: _Axes, line: Series, x: float, y: float, x_label: str) -> Markup:
    name = f"{line.name}: " if line.name else ""
    return Markup('<circle class="hit c{}" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}</title></circle>').format(
        line.colour, axes.x(x), axes.y(y), f"{name}{number(y)} at {x_label} {number(x)}"
    )
