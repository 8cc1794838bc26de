"""Collected demonstrations are a complete data set: what the expert wanted, what the cameras saw, one task each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pi05.data.lerobot.reader import Dataset
from pi05.errors import ConfigError, DataError
from pi05.sim.collect import collect
from pi05.sim.experts import TabletopExpert
from pi05.sim.tabletop import Tabletop


def test_the_data_set_holds_what_happened(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    root = collect("tabletop", "demo", 3, tmp_path / "data", seed=7, progress=lambda *done: seen.append(done))
    data = Dataset(root)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert data.num_episodes == 3
    assert data.fps == 10
    assert data.camera_keys == ["observation.images.scene", "observation.images.wrist"]
    assert list(data.action_names) == ["x_m", "y_m", "opening"]
    env = Tabletop("demo")
    for episode in data.episodes:
        first = env.reset(7 + episode.index)
        frame = data.frame(episode.start)
        assert frame["task"] == env.instruction
        np.testing.assert_array_equal(frame["observation.state"], first["observation.state"])
        np.testing.assert_array_equal(frame["action"], TabletopExpert(env).act())
        for key in data.camera_keys:
            difference = np.abs(frame[key].astype(int) - first[key].astype(int))
            assert difference.mean() < 4  # H.264 with halved colour resolution


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    first, second = (Dataset(collect("tabletop", "base", 2, tmp_path / name, seed=1)) for name in ("a", "b"))
    np.testing.assert_array_equal(first.actions(), second.actions())
    np.testing.assert_array_equal(first.states(), second.states())


def test_half_of_the_steps_are_disturbed_but_what_was_wanted_is_recorded(tmp_path: Path) -> None:
    data = Dataset(collect("tabletop", "demo", 8, tmp_path / "data"))
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


@pytest.mark.parametrize(("env", "episodes"), [("kitchen", 3), ("tabletop", 0)])
def test_impossible_requests_are_refused(tmp_path: Path, env: str, episodes: int) -> None:
    with pytest.raises(ConfigError):
        collect(env, "demo", episodes, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="exists already"):
        collect("tabletop", "demo", 1, tmp_path / "data")
