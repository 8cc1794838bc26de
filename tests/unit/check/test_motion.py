"""What actions are: told from made-up motions and from real robots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from check_subjects import Change, write_set

from pi05.check.motion import FOLLOWS, NOT_A_TARGET, Motion, measure_motion
from pi05.data.lerobot.reader import Dataset


def measured(root: Path, change: Change | None = None) -> Motion:
    dataset = write_set(root / "set", episodes=4, change=change)
    motion = measure_motion(dataset, range(4))
    assert motion is not None
    return motion


def late(frames: int) -> Change:
    def change(episode: int, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return states, actions[np.clip(np.arange(len(actions)) - frames, 0, None)]

    return change


def to_steps(factor: float) -> Change:
    def change(episode: int, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return states, factor * np.diff(states, axis=0, append=states[-1:])

    return change


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (None, "target"),
        (lambda _, states, actions: (states, states), "state"),
        (lambda _, states, actions: (states, np.concatenate([states[1:], states[-1:]])), "next_state"),
        (to_steps(1), "step"),
        (to_steps(10), "velocity"),
        (lambda _, states, actions: (states, np.roll(actions, 1, axis=1)), "other"),
    ],
)
def test_each_kind_of_action_is_told(tmp_path: Path, change: Change | None, kind: str) -> None:
    motion = measured(tmp_path, change)
    assert motion.kind == kind
    assert (motion.ratio > NOT_A_TARGET) == (kind in ("step", "velocity", "other"))
    if kind in ("step", "velocity"):
        assert motion.step_scale == pytest.approx({"step": 1.0, "velocity": 0.1}[kind], rel=0.05)


@pytest.mark.parametrize("frames", [0, 5])
def test_actions_that_come_late_do_not_go_with_the_motion_that_follows(tmp_path: Path, frames: int) -> None:
    motion = measured(tmp_path, late(frames))
    assert motion.kind == "target"
    assert (motion.follows < FOLLOWS) == (frames == 5)
    if frames:
        assert motion.shift < 0


def test_nothing_is_said_of_a_robot_that_does_not_move(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", episodes=2, change=lambda _, states, actions: (0 * states, 0 * actions))
    assert measure_motion(dataset, range(2)) is None


def test_real_robots(shared: Path) -> None:
    cr5 = Dataset(shared / "datasets" / "cr5_v30_5ep_onefile")
    velocities = measure_motion(cr5, range(5))
    assert velocities is not None
    assert velocities.ratio > 5
    arm = Dataset(
        shared / "datasets" / "gr1_sim_v20_5ep", drop_cameras=["observation.images.egoview"], allow=["timestamps"]
    )
    targets = measure_motion(arm, range(5))
    assert targets is not None
    assert targets.kind == "target"
    assert targets.ratio < 0.3
    assert targets.follows > 0.9
