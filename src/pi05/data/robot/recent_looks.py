"""The last looks of one robot: does a camera stand otherwise than in training, or does one picture only look so?

A single picture of a moving camera, above all in a scene that was not trained on, may be taken for a turned one. A
camera that is turned is turned in nearly every picture, from the first one on. So a camera is told while more than half
of its last looks were; at the first look that look decides.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from pi05.data.robot.camera_view import EXCHANGED

LOOKS = 30
"""So many looks are kept of each camera. In suites of LIBERO that a policy was not trained on, at most 12 in 30 of a
camera were taken for turned or exchanged; of wrist cameras that were upside down, 94 of 100."""


class RecentLooks:
    """What was found in the last looks of each camera."""

    def __init__(self) -> None:
        self._turns: dict[str, deque[str | None]] = {}
        self._exchanged: dict[str, deque[str | None]] = {}

    def usually(self, camera: str, how: Iterable[str]) -> tuple[str, ...]:
        """Note how a camera's new picture stands otherwise than in training; return what is true of most, and of it.

        Of several turns, which a symmetric view leaves open, the commonest is returned.
        """
        found = tuple(how)
        turn = next((one for one in found if one != EXCHANGED), None)
        colours = EXCHANGED if EXCHANGED in found else None
        told = (_usual(self._turns, camera, turn), _usual(self._exchanged, camera, colours))
        return tuple(one for one in told if one is not None)


def _usual(kept: dict[str, deque[str | None]], camera: str, new: str | None) -> str | None:
    looks = kept.setdefault(camera, deque(maxlen=LOOKS))
    looks.append(new)
    told = Counter(one for one in looks if one is not None)
    if new is None or 2 * told.total() <= len(looks):
        return None
    return told.most_common(1)[0][0]
