"""How large a message may unpack to, found out before it is unpacked. No torch, no NumPy.

One byte of msgpack can become an empty dictionary of 64 bytes, and one length can promise four billion items. Only the
headers are walked over: items are counted, depth is measured, every length is compared with the bytes that are there.
"""

from __future__ import annotations

from pi05.errors import Refused

MOST_ITEMS = 10_000
"""Values in a message, keys included; an observation has about fifty, a state that is sent as lists some hundreds."""
DEEPEST = 16
"""Containers within containers."""

_SKIP = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8}
_SKIP |= {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""Header of a scalar → bytes that follow it."""
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Header of bytes or text → bytes of its length."""
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Header of a list or map → bytes of its length, values for each entry."""


def require_bounded(frame: bytes) -> None:
    """Raise Refused for bytes that are not exactly one msgpack value of bounded size without extension types."""
    place, items, open_values = 0, 0, [1]
    while True:
        while open_values and open_values[-1] == 0:
            open_values.pop()
        if not open_values:
            break
        open_values[-1] -= 1
        items += 1
        if place >= len(frame):
            raise malformed("the message ends within a value")
        head = frame[place]
        place += 1
        if head <= 0x7F or head >= 0xE0:
            continue
        count, place = _follow(frame, head, place)
        if count:
            if len(open_values) >= DEEPEST:
                raise malformed(f"the message is nested deeper than {DEEPEST} levels")
            open_values.append(count)
            if items + count > MOST_ITEMS:
                raise malformed(f"the message holds more than {MOST_ITEMS:,} values; send arrays, not lists of numbers")
    if place != len(frame):
        raise malformed(f"{len(frame) - place} bytes follow the message")


def _follow(frame: bytes, head: int, place: int) -> tuple[int, int]:
    """Return how many values a value opens, and the place behind it or behind its header."""
    if head <= 0x8F:
        return 2 * (head & 0x0F), place
    if head <= 0x9F:
        return head & 0x0F, place
    if head <= 0xBF:
        return 0, _within(frame, place + (head & 0x1F))
    if head in _SKIP:
        return 0, _within(frame, place + _SKIP[head])
    if head in _LENGTHS:
        body = _within(frame, place + _LENGTHS[head])
        return 0, _within(frame, body + int.from_bytes(frame[place:body], "big"))
    if head in _CONTAINERS:
        size, each = _CONTAINERS[head]
        body = _within(frame, place + size)
        return each * int.from_bytes(frame[place:body], "big"), body
    raise malformed(f"the message holds a value of type 0x{head:02x}: extension types are not read")


def _within(frame: bytes, place: int) -> int:
    if place > len(frame):
        raise malformed("the message ends within a value")
    return place


def malformed(found: str) -> Refused:
    """Return the refusal of bytes that no client of this protocol sends."""
    return Refused(
        "the message cannot be read",
        code="malformed",
        wanted="one msgpack map in a binary frame, arrays as openpi, msgpack-numpy or vla-eval pack them",
        found=found,
        remedy="use the openpi client, pi05.serve.client, or pack as docs/serve.md says",
    )
