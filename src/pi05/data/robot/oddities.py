"""What was odd about observations and was not refused: told in the log once, and kept for reports."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pi05.data.robot.camera_view import EXCHANGED
from pi05.data.robot.guard import Outside, Unlike
from pi05.data.robot.instructions import Unheard

OTHER_UNITS = "other units, another calibration, another robot?"
OTHER_CAMERA = "BGR in the place of RGB, or a camera that is mounted or turned in another way?"
OTHER_PLACE = "have two cameras changed places, by their cables, or by their numbers when the computer started?"
OTHER_WORDS = "no demonstration had these words, and what the policy does then nobody has shown it"
NOBODY_THERE = "no demonstration was there, and the policy has to guess"

MOST_INSTRUCTIONS = 20
"""Told of one policy: whoever asks may ask anything, and a server runs for months."""

logger = logging.getLogger(__name__)


class Oddities:
    """Each dimension of the state, each camera with what is wrong with it, and each strange instruction, once."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._known: set[int | tuple[str, bool, bool] | tuple[str, ...]] = set()
        self._instructions: set[str] = set()

    def tell(self, outside: Sequence[Outside], unlike: Sequence[Unlike], unheard: Unheard | None = None) -> None:
        """Warn of what is new among numbers that are far from the training data, pictures unlike its own, and an
        instruction that it did not have."""
        told = self._instructions
        if unheard is not None and unheard.task not in told and len(told) < MOST_INSTRUCTIONS:
            told.add(unheard.task)
            self._warn(str(unheard), OTHER_WORDS)
        for odd in unlike:
            if odd.displaced:
                self._tell((*odd.how, odd.camera), str(odd), OTHER_PLACE)
                continue
            is_exchanged = EXCHANGED in odd.how
            self._tell((odd.camera, is_exchanged, len(odd.how) > is_exchanged), str(odd), OTHER_CAMERA)
        for found in outside:
            self._tell(found.dimension, str(found), OTHER_UNITS if found.surely_wrong else NOBODY_THERE)

    def _tell(self, what: int | tuple[str, bool, bool] | tuple[str, ...], text: str, why: str) -> None:
        if what not in self._known:
            self._known.add(what)
            self._warn(text, why)

    def _warn(self, text: str, why: str) -> None:
        self.told.append(text)
        logger.warning("%s: %s", text, why)
