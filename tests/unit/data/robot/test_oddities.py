from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from pi05.data.robot.camera_view import EXCHANGED
from pi05.data.robot.guard import Outside, Unlike
from pi05.data.robot.instructions import Unheard
from pi05.data.robot.oddities import (
    MOST_INSTRUCTIONS,
    NOBODY_THERE,
    OTHER_CAMERA,
    OTHER_UNITS,
    OTHER_WORDS,
    Oddities,
)

ELBOW = Outside(dimension=1, name="elbow", value=17.0, low=-0.2, high=0.2, surely_wrong=True)
DOWN = Unlike(camera="top", how=("upside down",))


def test_each_dimension_and_each_camera_with_its_fault_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    odd = Oddities()
    wrist, near = replace(DOWN, camera="wrist"), replace(ELBOW, dimension=2, value=0.3, surely_wrong=False)
    exchanged = Unlike(camera="top", how=(EXCHANGED,))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            odd.tell([ELBOW], [DOWN])
        odd.tell([replace(ELBOW, value=18.0)], [Unlike(camera="top", how=("mirrored top to bottom",))])
        odd.tell([near], [wrist, exchanged])
    assert odd.told == [str(one) for one in (DOWN, ELBOW, wrist, exchanged, near)]
    whys = [record.message.rpartition(": ")[2] for record in caplog.records]
    assert whys == [OTHER_CAMERA, OTHER_UNITS, OTHER_CAMERA, OTHER_CAMERA, NOBODY_THERE]


def test_nothing_odd_is_nothing_told(caplog: pytest.LogCaptureFixture) -> None:
    odd = Oddities()
    odd.tell([], [])
    assert odd.told == [] == caplog.records


def test_strange_instructions_are_told_once_each_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    odd = Oddities()
    with caplog.at_level(logging.WARNING):
        for i in range(MOST_INSTRUCTIONS + 50):
            for _ in range(2):
                odd.tell([], [], Unheard(task=f"dance {i}", known=("walk",)))
    assert len(odd.told) == len(set(odd.told)) == len(caplog.records) == MOST_INSTRUCTIONS
    assert odd.told[0] == "the instruction is 'dance 0', not the only one of the training: 'walk'"
    assert caplog.records[0].message.endswith(OTHER_WORDS)
