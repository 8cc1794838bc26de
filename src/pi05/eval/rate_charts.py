"""Success rates and shares as SVG bars like `pages/charts.py`: full labels, whiskers for the confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pi05.eval.result import SuccessRate
from pi05.pages.labels import bar_label


def rate_scale(rate: SuccessRate, goal: float | None = None) -> Markup:
    """Return one long bar from 0 to 100 % with the Wilson interval, and a goal as a dashed line."""
    width, height, left = 760, 46, 4
    span = width - 2 * left
    low, high = (left + span * bound for bound in rate.interval)
    body = [Markup('<rect class="track" x="{}" y="6" width="{}" height="14" rx="3"/>').format(left, span)]
    body.append(
        Markup('<rect class="bar" x="{}" y="6" width="{:.1f}" height="14" rx="3"/>').format(
            left, span * (rate.value or 0)
        )
    )
    body.append(Markup('<path class="whisker" d="M{0:.1f} 8v10M{1:.1f} 8v10M{0:.1f} 13H{1:.1f}"/>').format(low, high))
    if goal is not None:
        body.append(Markup('<line class="goal" x1="{0:.1f}" x2="{0:.1f}" y1="1" y2="25"/>').format(left + span * goal))
    for tick, anchor in ((0, "start"), (25, "middle"), (50, "middle"), (75, "middle"), (100, "end")):
        body.append(
            Markup('<text class="tick" x="{}" y="40" text-anchor="{}">{} %</text>').format(
                left + span * tick / 100, anchor, tick
            )
        )
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, rate.render(), Markup("").join(body)
    )


def rate_bars(rates: Sequence[tuple[str, SuccessRate]]) -> Markup:
    """Return horizontal bars of success rates with their Wilson intervals as whiskers, labels in full."""
    row, label_width, width = 30, 330, 860
    span = width - label_width - 130
    height = row * len(rates) + 34
    body = []
    for tick in (0, 25, 50, 75, 100):
        x = label_width + span * tick / 100
        body.append(Markup('<line class="grid" x1="{0}" x2="{0}" y1="4" y2="{1}"/>').format(x, height - 26))
        body.append(
            Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{} %</text>').format(x, height - 8, tick)
        )
    for index, (label, rate) in enumerate(rates):
        middle = 4 + row * index + row / 2
        low, high = (label_width + span * bound for bound in rate.interval)
        end = span * (rate.value or 0)
        body.append(Markup("<g><title>{}: {}</title>").format(label, rate.render()))
        body.append(bar_label(label, label_width - 12, middle + 4, label_width - 12))
        body.append(
            Markup('<rect class="track" x="{}" y="{}" width="{}" height="16" rx="3"/>').format(
                label_width, middle - 8, span
            )
        )
        body.append(
            Markup('<rect class="bar" x="{}" y="{}" width="{:.1f}" height="16" rx="3"/>').format(
                label_width, middle - 8, end
            )
        )
        body.append(
            Markup('<path class="whisker" d="M{0:.1f} {2}v8M{1:.1f} {2}v8M{0:.1f} {3}H{1:.1f}"/>').format(
                low, high, middle - 4, middle
            )
        )
        counts = "no episode counts" if rate.value is None else f"{rate.successes}/{rate.trials} · {rate.value:.0%}"
        body.append(
            Markup('<text class="label" x="{}" y="{}">{}</text></g>').format(
                label_width + span + 14, middle + 4, counts
            )
        )
    return Markup('<svg class="bars" viewBox="0 0 {} {}" role="img" aria-label="success rates">{}</svg>').format(
        width, height, Markup("").join(body)
    )


def share_bar(parts: Sequence[tuple[str, float]]) -> Markup:
    """Return one bar divided in proportion to the parts."""
    width, total, x = 1000, sum(value for _, value in parts) or 1.0, 0.0
    body = []
    for index, (name, value) in enumerate(parts):
        span = width * value / total
        body.append(
            Markup(
                '<rect class="part p{}" x="{:.1f}" y="0" width="{:.1f}" height="22"><title>{}: {:.0%}</title></rect>'
            ).format(index % 6 + 1, x, max(span - 2, 0.5), name, value / total)
        )
        x += span
    return Markup('<svg viewBox="0 0 {} 30" role="img" aria-label="shares">{}</svg>').format(
        width, Markup("").join(body)
    )
