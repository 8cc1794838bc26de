"""LIBERO's data sets: their cameras need no flag, and their rate is told."""

from __future__ import annotations

import pytest

from pi05.data.cameras import assign_slots
from pi05.data.libero import SCENE, WRIST, camera_slots, rate_note


def test_both_spellings_find_their_slots() -> None:
    lerobots = assign_slots([SCENE, WRIST], camera_slots([SCENE, WRIST]))
    assert (lerobots.scene, lerobots.left_wrist) == (SCENE, WRIST)
    openpis = assign_slots(["image", "wrist_image"], camera_slots(["image", "wrist_image"]))
    assert (openpis.scene, openpis.left_wrist, openpis.right_wrist) == ("image", "wrist_image", None)


def test_other_sets_are_left_alone() -> None:
    assert camera_slots([SCENE, "observation.images.image3"]) == {}
    assert camera_slots([SCENE, WRIST, "observation.images.top"]) == {}


@pytest.mark.parametrize("cameras", [[SCENE, WRIST], ["image", "wrist_image"]])
def test_the_rate_is_told_where_it_is_wrong(cameras: list[str]) -> None:
    note = rate_note(cameras, 8, 7, 10)
    assert note is not None
    assert "--allow=control-rate" in note
    assert "20 Hz" in note
    assert rate_note(cameras, 8, 7, 20) is None
    assert rate_note(cameras, 8, 8, 10) is None
    assert rate_note(["observation.images.top"], 8, 7, 10) is None
