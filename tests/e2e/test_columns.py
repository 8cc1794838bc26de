"""State and action in several columns, from the command line to the policy and to an exported folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from broken import split_column

from pi05.cli import main
from pi05.errors import DataError
from pi05.policy import Policy

STATE = ["joint_position", "gripper_position"]
FLAGS = {"dataset__state": "[joint_position, gripper_position]", "dataset__action": "[arm, grip]"}


@pytest.fixture(scope="module")
def droid(tmp_path_factory: pytest.TempPathFactory) -> fakes.FakeDataset:
    made = fakes.write_dataset(tmp_path_factory.mktemp("droid") / "set", episodes=(6, 5, 4))
    split_column(made.root, "observation.state", {"joint_position": 3, "gripper_position": 1})
    split_column(made.root, "action", {"arm": 2, "grip": 1})
    return made


@pytest.fixture(scope="module")
def run(droid: fakes.FakeDataset, workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = workshop.flags(folder, dataset__root=droid.root, steps=2, policy__use_relative_actions=True, **FLAGS)
    words.append("--allow=recipe.relative_actions")  # the numbers are drawn at random
    assert main(["train", *words]) == 0
    return folder


def observation(droid: fakes.FakeDataset, **parts: Any) -> dict[str, Any]:
    pictures = {camera: fakes.numbered_image(0, k) for k, camera in enumerate(droid.cameras)}
    return {**pictures, "task": droid.task_of_frame[0], **parts}


def act(policy: Policy, observed: dict[str, Any]) -> np.ndarray:
    return np.asarray(policy.infer(observed, generator=torch.Generator().manual_seed(0))["actions"])


def test_without_the_flags_the_error_gives_them(
    droid: fakes.FakeDataset, workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *workshop.flags(tmp_path / "run", dataset__root=droid.root, steps=1)]) == 2
    assert "--dataset.state='[joint_position, gripper_position, arm, grip]'" in capsys.readouterr().err


def test_the_policy_takes_the_columns_or_the_whole(run: Path, droid: fakes.FakeDataset) -> None:
    policy, state = Policy.load(run), droid.states[0]
    stats = policy.processor.state_stats
    assert stats.dim == 4
    assert policy.processor.relative_mask == (True, True, True)
    whole = act(policy, observation(droid, **{"observation.state": state}))
    parts = act(policy, observation(droid, gripper_position=state[3], joint_position=state[:3]))
    np.testing.assert_array_equal(parts, whole)
    other = act(policy, observation(droid, gripper_position=state[3], joint_position=state[:3] + 1))
    assert not np.allclose(other, whole, atol=1e-3)
    for missing in ({"joint_position": state[:3]}, {}):
        with pytest.raises(DataError, match=r"joint_position \(3\), gripper_position \(1\)"):
            act(policy, observation(droid, **missing))


def test_what_a_checkpoint_records(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = json.loads((run / "checkpoints/last/config.json").read_text())["processor"]
    assert stored["state_columns"] == [{"name": "joint_position", "size": 3}, {"name": "gripper_position", "size": 1}]
    assert stored["action_columns"] == [{"name": "arm", "size": 2}, {"name": "grip", "size": 1}]
    assert json.loads((run / "config.json").read_text())["dataset"]["state"] == STATE
    capsys.readouterr()
    assert main(["inspect", str(run)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "joined from the columns joint_position (3), gripper_position (1)" in printed
    assert "joined from the columns arm (2), grip (1)" in printed


def test_a_run_goes_on_with_the_same_columns_only(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turned = "--dataset.state=[gripper_position, joint_position]"
    assert main(["train", f"--resume={run}", "--steps=3", turned]) == 2
    assert "dataset.state" in capsys.readouterr().err
    assert main(["train", f"--resume={run}", "--steps=3"]) == 0


@pytest.mark.parametrize("to", ["lerobot", "openpi"])
def test_exports_keep_one_state_and_the_names(
    run: Path, droid: fakes.FakeDataset, tmp_path: Path, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"--to={to}", str(run), str(tmp_path / to)]) == 0
    assert "cannot be read where they were" not in capsys.readouterr().out
    if to == "lerobot":
        features = json.loads((tmp_path / to / "config.json").read_text())["input_features"]
        assert features["observation.state"]["shape"] == [4]
    policy, state = Policy.load(tmp_path / to), droid.states[0]
    whole = act(policy, observation(droid, **{"observation.state": state}))
    parts = act(policy, observation(droid, joint_position=state[:3], gripper_position=state[3:]))
    np.testing.assert_array_equal(parts, whole)
