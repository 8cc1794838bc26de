"""LIBERO as an environment: orientation against recorded frames, state, actions, goals, starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from libero_here import needs_libero
from libero_programs import measure
from PIL import Image

from pi05.sim.libero.environment import axis_angle


def test_axis_angle() -> None:
    assert np.array_equal(axis_angle(np.array([0.0, 0.0, 0.0, 1.0])), np.zeros(3))
    half = np.sqrt(0.5)
    assert np.allclose(axis_angle(np.array([0.0, half, 0.0, half])), [0, np.pi / 2, 0])
    assert np.allclose(axis_angle(np.array([1.0, 0.0, 0.0, -0.01])), [2 * np.arccos(-0.01), 0, 0], rtol=1e-3)
    assert np.isfinite(axis_angle(np.array([0.0, 0.0, 0.0, 1.0 + 1e-9]))).all()


def eight(picture: np.ndarray) -> Iterator[tuple[tuple[bool, int, int], np.ndarray]]:
    """Yield a picture turned and mirrored in all ways."""
    for transposed in (False, True):
        turned = picture.transpose(1, 0, 2) if transposed else picture
        for rows in (1, -1):
            for columns in (1, -1):
                yield (transposed, rows, columns), turned[::rows, ::columns]


@pytest.fixture
def recorded(shared: Path) -> Path:
    """Return the folder of real frames of LIBERO's training data."""
    folder = shared / "datasets" / "libero_sample_frames" / "logs"
    if not folder.is_dir():
        pytest.skip(f"no recorded frames: {folder} is not there")
    return folder


@needs_libero
@pytest.mark.process
@pytest.mark.slow
def test_frames_and_state_are_of_the_recorded_kind(recorded: Path) -> None:
    """Of eight orientations the recorded one wins, for both cameras; the arm stands where recordings begin."""
    measured = measure("first_frames")
    for episode, camera, margin in ((1, "main", 0.6), (1, "wrist", 0.8), (50, "main", 0.6), (50, "wrist", 0.8)):
        name = f"episode_{episode:06d}_frame_000000_{camera}.png"
        with Image.open(recorded / "day9_images" / name) as file:
            real = np.asarray(file.convert("RGB"), dtype=float).reshape(64, 4, 64, 4, 3).mean((1, 3))
        seen = np.array(measured[str(episode)][camera])
        apart = {key: np.abs(real - turned).mean() for key, turned in eight(seen)}
        best, second = sorted(apart, key=apart.__getitem__)[:2]
        assert best == (False, 1, 1)
        assert apart[best] < margin * apart[second]
    summary = json.loads((recorded / "day8_samples" / "sample_summary.json").read_text())
    first = np.array(json.loads(summary[0]["fields"]["state"]["preview"]))  # five of eight numbers
    ours = np.array(measured["1"]["state"])
    assert ours.shape == (8,)
    assert np.abs(first[:3] - ours[:3]).max() < 0.05  # m
    assert np.abs(first[3:] - ours[3:5]).max() < 0.1  # rad
    assert np.allclose(ours[6:], [0.04, -0.04], atol=0.005)  # m, open


@needs_libero
@pytest.mark.process
@pytest.mark.slow
def test_an_episode() -> None:
    found = measure("episode")
    assert found["again"]
    assert found["restored"]
    assert found["clipped"]
    assert [reason[:32] for reason in found["refused"]] == ["an action is 7 finite numbers, f"] * 2
    size = [256, 256]
    assert found["cameras"] == {"observation.images.image": size, "observation.images.image2": size}
    assert found["dtypes"] == ["uint8", "uint8", "float32"]
    assert found["task"] == "pick up the alphabet soup and place it in the basket"
    assert found["notes"] == []
    # other things of the scene may be asked for
    assert found["goals"][0] == found["task"]
    assert len(set(found["goals"])) == len(found["goals"]) == 6
    assert found["checks"] == [False] * 6
    assert found["implied"] == [True] + [False] * 5
    # random starts
    assert found["random_same"]
    assert 0.001 < max(found["random_joints"]) < 0.15  # rad
    assert found["random_objects"] > 0.001  # m
    assert found["numbers_kept"]


@needs_libero
@pytest.mark.process
@pytest.mark.slow
def test_held_actions_and_goals_that_the_scene_does_not_tell() -> None:
    found = measure("held_actions")
    assert found["same"]
    assert (found["lengths"], found["rates"]) == ([280, 140], [20.0, 10.0])
    assert found["moved"] == []
    assert [text[12:25] for text in found["asked"]] == ["alphabet soup", "salad dressin"]
    assert len(found["goals"]) == 2, "of the chosen tasks"
    assert "dressing" in found["goals"][0]
    assert found["success"]
    assert not found["own"]
    assert found["taken"] == ["salad_dressing_1"]
