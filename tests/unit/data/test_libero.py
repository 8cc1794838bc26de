"""LIBERO's data sets: their cameras need no flag, and their rate is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi05.data.cameras import assign_slots
from pi05.data.lerobot.format_v3 import REPLAY_FILE
from pi05.data.libero import SCENE, WRIST, camera_slots, rate_note
from pi05.sim.replay_file import ReplayFile, ReplayRow


def test_both_spellings_find_their_slots() -> None:
    lerobots = assign_slots([SCENE, WRIST], camera_slots([SCENE, WRIST]))
    assert (lerobots.scene, lerobots.left_wrist) == (SCENE, WRIST)
    openpis = assign_slots(["image", "wrist_image"], camera_slots(["image", "wrist_image"]))
    assert (openpis.scene, openpis.left_wrist, openpis.right_wrist) == ("image", "wrist_image", None)


def test_other_sets_are_left_alone() -> None:
    assert camera_slots([SCENE, "observation.images.image3"]) == {}
    assert camera_slots([SCENE, WRIST, "observation.images.top"]) == {}


@dataclass
class Told:
    """As much of a data set as is asked for its rate."""

    root: Path
    camera_keys: list[str] = field(default_factory=lambda: [SCENE, WRIST])
    fps: float = 10.0
    state_names: list[str] = field(default_factory=lambda: list("abcdefgh"))
    action_names: list[str] = field(default_factory=lambda: list("abcdefg"))
    version: str = "v3.0"
    robot_type: str | None = "panda"
    num_episodes: int = 1
    num_frames: int = 1
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)


@pytest.mark.parametrize("cameras", [[SCENE, WRIST], ["image", "wrist_image"]])
def test_the_rate_is_told_where_it_is_wrong(cameras: list[str], tmp_path: Path) -> None:
    note = rate_note(Told(tmp_path, cameras))
    assert note is not None
    assert "--allow=control-rate" in note
    assert "20 Hz" in note
    assert rate_note(Told(tmp_path, cameras, fps=20)) is None
    assert rate_note(Told(tmp_path, cameras, action_names=list("abcdefgh"))) is None
    assert rate_note(Told(tmp_path, ["observation.images.top"])) is None


def test_held_actions_of_our_own_are_at_ten_hertz_in_truth(tmp_path: Path) -> None:
    """What `pi05 collect --hold=2` wrote looks as LIBERO's own sets do, and tells its true rate."""
    assert rate_note(Told(tmp_path)) is not None
    replay = ReplayFile({"env": "libero", "hold": 2})
    replay.add(ReplayRow("open the drawer", 1, None, np.zeros((3, 7), np.float32)))
    replay.write(tmp_path / REPLAY_FILE)
    assert rate_note(Told(tmp_path)) is None
