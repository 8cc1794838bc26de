from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from pi05.errors import Refused
from pi05.serve.bounds import DEEPEST, MOST_ITEMS, require_bounded

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20), max_leaves=40
)


@given(value=VALUES)
def test_what_msgpack_packs_passes_and_cut_short_or_longer_does_not(value: Any) -> None:
    frame = msgpack.packb(value)
    try:
        require_bounded(frame)
    except Refused:
        event("refused")  # a value that is nested too deeply
        return
    for broken in (frame[:-1], frame + b"\xc0"):
        with pytest.raises(Refused):
            require_bounded(broken)


@given(frame=st.binary(max_size=200))
def test_bytes_pass_only_if_msgpack_reads_them(frame: bytes) -> None:
    try:
        require_bounded(frame)
    except Refused:
        return
    try:
        msgpack.unpackb(frame, strict_map_key=False)
    except (UnicodeDecodeError, TypeError):  # text that is none; a key that is a list
        return


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        (b"\x91" * (DEEPEST + 2) + b"\xc0", "nested deeper"),
        (b"\xdd\xff\xff\xff\xff", "more than"),
        (b"\xdf\xff\xff\xff\xff", "more than"),
        (b"\xdd" + (MOST_ITEMS + 1).to_bytes(4, "big") + b"\x80" * (MOST_ITEMS + 1), "more than"),
        (b"\xc6\xff\xff\xff\xff", "ends within"),
        (b"\xdb\x00\x00\x00\x09abc", "ends within"),
        (b"\xd4\x01\x00", "extension"),
        (b"\xc7\x01\x05x", "extension"),
        (b"\xd7\xff" + b"\x00" * 8, "extension"),
        (b"\x80\x80", "follow"),
        (b"", "ends within"),
    ],
)
def test_what_is_too_large_is_refused_by_its_headers(frame: bytes, part: str) -> None:
    with pytest.raises(Refused, match=part):
        require_bounded(frame)


def test_a_message_that_promises_much_costs_little() -> None:
    bomb = b"\xdc\xff\xff" + b"\xdc\xff\xff" * 4 + b"\x80" * 1_000_000
    tracemalloc.start()
    with pytest.raises(Refused):
        require_bounded(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
