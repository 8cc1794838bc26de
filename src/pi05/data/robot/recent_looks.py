"""The last looks of one robot: does a camera stand otherwise than in training, or does one picture only look so?

A single picture of a moving camera, above all in a scene that was not trained on, may be taken for a turned one. A
camera that is turned is turned in nearly every picture, from the first one on. So a camera is told while more than half
of its last looks were; at the first look that look decides.

A look that shows the same as the one before it is not counted again. A robot that was refused stands still: what it
sends is one look, however often, and must not outweigh those that it has when it moves on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8

from pi05.data.robot.camera_view import EXCHANGED, SHOWS

LOOKS = 30
"""So many looks are kept of each camera. In suites of LIBERO that a policy was not trained on, at most 12 in 30 of a
camera were taken for turned or exchanged; of its wrist camera upside down, 84 to 98 of 100."""
SAME = 4
"""Grey values by which no pixel of a small picture differs from the same look: noise, compression, the light. Of a real
CR5 arm's frames 88 of 100 are within it of the frame before while the arm stands still, and 6 of 100 of that of a
second before while it moves."""


class RecentLooks:
    """What was found in the last looks of each camera."""

    def __init__(self) -> None:
        self._turns: dict[str, deque[str | None]] = {}
        self._exchanged: dict[str, deque[str | None]] = {}
        self._places: dict[str, deque[str | None]] = {}
        self._counted: dict[str, UInt8[np.ndarray, "8 8 3"]] = {}

    def usually(
        self, camera: str, how: Iterable[str], picture: UInt8[np.ndarray, "8 8 3"] | None = None
    ) -> tuple[str, ...]:
        """Note how a camera's new picture stands otherwise than in training; return what is true of most, and of it.

        Of several turns, which a symmetric view leaves open, the commonest is returned. `picture`, as `shrink` makes
        it, tells whether this is another look than the last one that was counted; without it, it is.
        """
        found = tuple(how)
        place = next((one for one in found if one.startswith(SHOWS)), None)
        turn = next((one for one in found if one not in (EXCHANGED, place)), None)
        colours = EXCHANGED if EXCHANGED in found else None
        another = self._is_another(camera, picture)
        told = (
            _usual(self._places, camera, place, another),
            _usual(self._turns, camera, turn, another),
            _usual(self._exchanged, camera, colours, another),
        )
        return tuple(one for one in told if one is not None)

    def _is_another(self, camera: str, picture: UInt8[np.ndarray, "8 8 3"] | None) -> bool:
        """Compare with the last look that counted, not with the last: a slow arm moves, too."""
        if picture is None:
            return True
        before = self._counted.get(camera)
        if before is not None and np.abs(picture.astype(np.int16) - before).max() <= SAME:
            return False
        self._counted[camera] = picture
        return True


def _usual(kept: dict[str, deque[str | None]], camera: str, new: str | None, another: bool) -> str | None:
    looks = kept.setdefault(camera, deque(maxlen=LOOKS))
    if another:
        looks.append(new)
    told = Counter(one for one in looks if one is not None)
    if new is None or 2 * told.total() <= len(looks):
        return None
    return told.most_common(1)[0][0]
