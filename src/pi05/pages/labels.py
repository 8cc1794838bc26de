"""The names of bars, in the room to their left: nobody knows the width of letters that another machine's fonts have."""

from __future__ import annotations

import unicodedata

from markupsafe import Markup

WIDE, NARROW = 13.0, 7.4
"""Pixels of a letter at 13 px: of Chinese and its like, and on average of others in the widest common font (DejaVu)."""
SQUEEZED = 1.3
"""Width over room up to which letters are squeezed; what is longer ends in an ellipsis."""


def bar_label(text: str, right: float, baseline: float, room: float) -> Markup:
    """Return SVG text that ends at `right` and is at most `room` px wide in any font."""
    shown = text
    while len(shown) > 1 and _width(shown) > SQUEEZED * room:
        shown = shown.removesuffix("…")[:-1] + "…"
    fitted = Markup(' textLength="{:.0f}" lengthAdjust="spacingAndGlyphs"').format(room)
    return Markup('<text class="label" x="{:g}" y="{:.1f}" text-anchor="end"{}>{}</text>').format(
        right, baseline, fitted if _width(shown) > room else "", shown
    )


def _width(text: str) -> float:
    return sum(WIDE if unicodedata.east_asian_width(letter) in "WF" else NARROW for letter in text)
