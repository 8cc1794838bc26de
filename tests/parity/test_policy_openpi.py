"""An openpi JAX folder as a policy, against openpi's own serving of LIBERO and DROID: from pixels to robot units.

openpi serves bfloat16 parameters with bfloat16 arithmetic, so tokens and pixels are compared exactly, actions loosely.
Recorded with the tiny network, a tokenizer of bytes and fixed noise.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from fakes import write_byte_tokenizer

from pi05.policy import Policy

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "openpi"
SERVED = 2e-2
"""Absolute, normalised; what bfloat16 changes in this network's actions (measured: 1.3e-2 at most)."""


class Robot(NamedTuple):
    """One of openpi's robots: what its code, and not its folder, knows."""

    name: str
    prompt_format: str
    cameras: dict[str, str]
    task: str


ROBOTS = {
    "libero": Robot(
        "libero", "none", {"image": "base_0_rgb", "wrist_image": "left_wrist_0_rgb"}, "put the bowl on the plate"
    ),
    "droid": Robot(
        "droid",
        "state",
        {"exterior_image_1_left": "base_0_rgb", "wrist_image_left": "left_wrist_0_rgb"},
        "pick up the fork",
    ),
}


@pytest.fixture(scope="module")
def record() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "policy_infer.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module", params=list(ROBOTS))
def robot(request: pytest.FixtureRequest) -> Robot:
    return ROBOTS[request.param]


@pytest.fixture(scope="module")
def policy(robot: Robot, record, openpi, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp(robot.name) / "6"
    folder.mkdir()
    (folder / "params").symlink_to(GOLDEN / "ckpt" / "ema" / "6" / "params")
    keys = {"state": "state", "actions": "actions"}
    stats = {
        key: {name: record[f"{robot.name}/norm/{key}/{name}"].tolist() for name in ("mean", "std", "q01", "q99")}
        for key in keys
    }
    assets = folder / "assets" / "lab" / robot.name
    assets.mkdir(parents=True)
    (assets / "norm_stats.json").write_text(json.dumps({"norm_stats": stats}))
    write_byte_tokenizer(folder / "tokenizer.json")
    return Policy.load(
        folder,
        prompt_format=robot.prompt_format,
        rename_map=robot.cameras,
        config=replace(openpi.config, max_prompt_tokens=120),
    )


@pytest.fixture(scope="module")
def observation(robot: Robot, record) -> dict[str, Any]:
    def given(key: str) -> np.ndarray:
        return record[f"{robot.name}/in/observation/{key}"]

    state = given("state") if robot.name == "libero" else np.append(given("joint_position"), given("gripper_position"))
    pictures = {f"observation.images.{camera}": given(camera) for camera in robot.cameras}
    return {**pictures, "observation.state": state, "task": robot.task}


def test_tokens_and_pixels(policy: Policy, robot: Robot, record, observation) -> None:
    encoded = policy.processor.encode(observation)
    mask = record[f"{robot.name}/model_in/tokenized_prompt_mask"]
    assert encoded.tokens.tolist() == record[f"{robot.name}/model_in/tokenized_prompt"][mask].tolist()
    for slot, name in enumerate(robot.cameras.values()):
        np.testing.assert_array_equal(encoded.images[slot], record[f"{robot.name}/model_in/image|{name}"])
    assert encoded.image_mask.tolist() == [True, True, False]


def test_state(policy: Policy, robot: Robot, record, observation) -> None:
    state = policy.processor.state_normalizer.normalize(observation["observation.state"])
    np.testing.assert_allclose(state, record[f"{robot.name}/model_in/state"][: len(state)], rtol=1e-12)


def test_actions(policy: Policy, robot: Robot, record, observation) -> None:
    ours = policy.infer_batch([observation], noise=torch.from_numpy(record["noise"])[None])[0]
    golden = record[f"{robot.name}/actions"]
    assert ours.shape == golden.shape
    normalize = policy.processor.action_normalizer.normalize
    difference = np.abs(normalize(ours) - normalize(golden))
    print(f"\n{robot.name}: greatest difference {difference.max():.2e}, allowed {SERVED:.0e}", end="")
    assert difference.max() <= SERVED
    assert np.abs(normalize(golden)).max() > 1, "actions far larger than the tolerance"


def test_what_the_folder_does_not_tell_is_noted(policy: Policy, robot: Robot) -> None:
    assert policy.fps is None
    assert any("relative actions" in note for note in policy.notes)
    assert any("control rate" in note for note in policy.notes)
    assert policy.provenance["prompt_format"] == robot.prompt_format
