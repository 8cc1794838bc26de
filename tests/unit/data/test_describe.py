"""What a notebook shows of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakes

from pi05 import Dataset
from pi05.data.describe import describe


def test_a_data_set_prints_what_it_is(tmp_path: Path) -> None:
    fakes.write_dataset(tmp_path / "data")
    assert repr(Dataset(tmp_path / "data")).splitlines() == [
        f"Dataset {tmp_path / 'data'} (LeRobot v3.0, robot fake)",
        "  3 episodes, 28 frames at 10 Hz (3 s)",
        "  camera   observation.images.scene 48 × 64 × 3 → scene",
        "  camera   observation.images.wrist 48 × 64 × 3 → left_wrist",
        "  state    4: observation.state_0, observation.state_1, observation.state_2, observation.state_3",
        "  action   3: action_0, action_1, action_2",
        "  task     put the red block on the blue plate",
        "  task     put the green block on the white plate",
    ]


@dataclass
class Large:
    root: Path = Path("arm")
    version: str = "v2.1"
    robot_type: str | None = None
    fps: float = 30.0
    num_episodes: int = 1234
    num_frames: int = 1_000_000
    camera_keys: list[str] = field(default_factory=lambda: ["observation.images.side"])
    features: dict[str, dict[str, Any]] = field(default_factory=lambda: {"observation.images.side": {}})
    state_names: list[str] = field(default_factory=lambda: [f"s{i}" for i in range(14)])
    action_names: list[str] = field(default_factory=lambda: ["grip\x1b[31m"])
    tasks: list[str] = field(default_factory=lambda: [f"task {i}" for i in range(7)])


def test_a_large_one_stays_short_and_harmless() -> None:
    assert describe(Large()).splitlines() == [
        "Dataset arm (LeRobot v2.1)",
        "  1,234 episodes, 1,000,000 frames at 30 Hz (556 min)",
        "  camera   observation.images.side of unknown size → no slot by its name",
        "  state    14: s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11 and 2 more",
        "  action   1: grip\\u001b[31m",
        "  task     task 0",
        "  task     task 1",
        "  task     task 2",
        "  task     task 3",
        "  task     task 4",
        "  task     and 2 more",
    ]
