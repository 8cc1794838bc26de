"""Collected demonstrations are a complete data set: what the expert wanted, what the cameras saw, one task each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_robot import FakeRobot, Workshop

from pi05 import Dataset
from pi05.errors import ConfigError, DataError, EvaluationError
from pi05.sim.collect import MOST_EXCEPTIONS, collect_demonstrations
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import expert_maker
from pi05.sim.experts import TabletopExpert
from pi05.sim.tabletop import Tabletop

DEMO = expert_maker(DemonstrationChoice(family="demo"))


def test_the_data_set_holds_what_happened(tmp_path: Path) -> None:
    seen: list[str] = []
    collected = collect_demonstrations(DEMO, 3, tmp_path / "data", first_seed=7, progress=lambda: seen.append("one"))
    data = Dataset(collected.folder)
    assert (collected.episodes, collected.exceptions) == (3, ())
    assert seen == ["one"] * 3
    assert data.num_episodes == 3
    assert data.fps == 10
    assert data.camera_keys == ["observation.images.scene", "observation.images.wrist"]
    assert list(data.action_names) == ["x_m", "y_m", "opening"]
    env = Tabletop("demo")
    for episode in data.episodes:
        env.reset(7 + episode.index)
        first = env.observe()
        frame = data.frame(episode.start)
        assert frame["task"] == env.instruction
        np.testing.assert_array_equal(frame["observation.state"], first["observation.state"])
        np.testing.assert_array_equal(frame["action"], TabletopExpert(env).act())
        for key in data.camera_keys:
            difference = np.abs(frame[key].astype(int) - first[key].astype(int))
            assert difference.mean() < 4  # H.264 with halved colour resolution


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    make = expert_maker(DemonstrationChoice(family="base"))
    first, second = (
        Dataset(collect_demonstrations(make, 2, tmp_path / name, first_seed=1).folder) for name in ("a", "b")
    )
    np.testing.assert_array_equal(first.actions(), second.actions())
    np.testing.assert_array_equal(first.states(), second.states())


def test_half_of_the_steps_are_disturbed_but_what_was_wanted_is_recorded(tmp_path: Path) -> None:
    data = Dataset(collect_demonstrations(DEMO, 8, tmp_path / "data").folder)
    env = Tabletop("demo", image_size=8)
    env.reset(0)
    states, actions = data.states(), data.actions()
    strayed = []
    for episode in data.episodes:
        for index in range(episode.start, episode.start + episode.length - 1):
            env.position = states[index, :2].astype(float)
            env.step(actions[index])
            strayed.append(not np.allclose(env.position, states[index + 1, :2], atol=1e-5))
    assert 0.35 < np.mean(strayed) < 0.65


def test_a_data_set_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs episodes"):
        collect_demonstrations(DEMO, 0, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="exists already"):
        collect_demonstrations(DEMO, 1, tmp_path / "data")


def test_any_robot_can_be_collected_from(tmp_path: Path) -> None:
    workshop = Workshop()
    data = Dataset(collect_demonstrations(workshop.robot_and_expert, 5, tmp_path / "data", first_seed=2).folder)
    (robot,) = workshop.robots
    assert robot.begun == [("left_1", 2), ("right_1", 2), ("left_1", 3), ("right_1", 3), ("left_1", 4)]
    assert robot.closings == 1
    assert data.num_episodes == 5
    assert data.fps == 20
    assert data.camera_keys == ["observation.images.front", "observation.images.wrist"]
    assert list(data.action_names) == list(robot.action_names)
    assert data.states().shape == (data.num_frames, 8)
    assert sorted(data.tasks) == ["turn left", "turn right"]
    assert json.loads((tmp_path / "data/meta/info.json").read_text())["robot_type"] == "fake_robot"
    for episode in data.episodes:
        frame = data.frame(episode.start)
        assert frame["observation.images.front"].shape == (24, 32, 3)
        assert frame["observation.images.wrist"].shape == (16, 16, 3)
        task, seed = robot.begun[episode.index]
        assert frame["task"] == {"left_1": "turn left", "right_1": "turn right"}[str(task)]
        np.testing.assert_allclose(frame["observation.state"][:7], 0.01 * seed, rtol=1e-6)
        assert frame["action"][0] == (-1 if task == "left_1" else 1)


def test_an_episode_lost_to_the_simulator_is_told_and_is_no_data(tmp_path: Path) -> None:
    workshop = Workshop(broken_seeds={1})
    collected = collect_demonstrations(workshop.robot_and_expert, 4, tmp_path / "data")
    assert collected.exceptions == (
        "FloatingPointError: the solver diverged (left_1, seed 1)",
        "FloatingPointError: the solver diverged (right_1, seed 1)",
    )
    assert [robot.closings for robot in workshop.robots] == [1, 1, 1]  # a simulator that failed is not used again
    data = Dataset(collected.folder)
    assert data.num_episodes == 4
    starts = [data.frame(episode.start)["observation.state"][1] for episode in data.episodes]
    np.testing.assert_allclose(starts, [0.0, 0.0, 0.02, 0.02], rtol=1e-6)
    assert all(data.frame(episode.start)["observation.state"][7] == 0 for episode in data.episodes)


def test_a_simulator_that_only_fails_ends_the_collection(tmp_path: Path) -> None:
    workshop = Workshop(broken_seeds=range(100))
    with pytest.raises(EvaluationError, match="one after another"):
        collect_demonstrations(workshop.robot_and_expert, 2, tmp_path / "data")
    assert len(workshop.robots) == MOST_EXCEPTIONS
    assert not any(tmp_path.iterdir())


def test_a_control_rate_that_lerobot_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRobot, "fps", 12.5)
    with pytest.raises(ValueError, match=r"12\.5 Hz"):
        collect_demonstrations(Workshop().robot_and_expert, 1, tmp_path / "data")
