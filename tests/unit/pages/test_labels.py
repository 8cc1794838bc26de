from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from pi05.pages.labels import NARROW, SQUEEZED, WIDE, bar_label

ROOM = 318.0
LONG = "pick up the alphabet soup and place it in the basket"


def test_a_short_label_is_as_it_is_and_a_long_one_is_squeezed_into_the_room() -> None:
    assert bar_label("a < b", 318, 4, ROOM) == '<text class="label" x="318" y="4.0" text-anchor="end">a &lt; b</text>'
    squeezed = bar_label(LONG, 318, 4, ROOM)
    assert f">{LONG}</text>" in squeezed
    assert 'textLength="318" lengthAdjust="spacingAndGlyphs"' in squeezed


def test_letters_that_are_twice_as_wide_count_twice() -> None:
    assert "textLength" not in bar_label("把字母汤放进篮子里", 318, 4, ROOM)
    assert "textLength" in bar_label("把字母汤放进篮子里" * 3, 318, 4, ROOM)


@given(st.text(min_size=1, max_size=200), st.floats(50, 400))
def test_no_label_is_wider_than_the_room_that_it_is_squeezed_into(text: str, room: float) -> None:
    drawn = str(bar_label(text, room, 0, room))
    found = re.fullmatch(r"<text [^>]*>(.*)</text>", drawn, re.DOTALL)
    assert found is not None
    letters = len(re.sub(r"&[^;]+;", "x", found.group(1)))
    assert letters * NARROW <= SQUEEZED * room
    assert "textLength" in drawn or letters * NARROW <= room
    assert letters <= max(len(text), 1)
    if len(text) * WIDE <= room:
        assert "textLength" not in drawn
        assert letters == len(text)
