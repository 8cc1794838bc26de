"""A LeRobot folder as a policy, against LeRobot's own processors and network on the same observation and noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot_folder import BASE, FRONT, HAND, WRIST, Folder
from safetensors import safe_open
from safetensors.torch import load_file

from pi05.data.collate import collate
from pi05.data.resize import interpolate_with_pad
from pi05.model.config import ModelConfig
from pi05.policy import Policy
from pi05.types import STATE

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
FOLDERS = GOLDEN / "lerobot_checkpoints"
TASK = "pick up the red cube"
ACTIONS = 1e-4
"""Absolute; float32 networks, sums in another order over ten Euler steps. Robot units span about 6."""
EXACT = 1e-6
"""Absolute; the same float32 operations in the same order."""
PIXELS = 1e-5
"""Absolute in [-1, 1]; another torch version interpolates."""


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(FOLDERS / "golden_actions.safetensors")


@pytest.fixture(scope="module", params=["full", "lora"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def policy(kind: str, lerobot) -> Policy:
    return Policy.load(FOLDERS / kind, config=lerobot.config)


@pytest.fixture(scope="module")
def observation(golden: dict[str, torch.Tensor]) -> dict[str, object]:
    pictures = {
        key.removeprefix("input."): np.rint(golden[key][0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        for key in golden
        if key.startswith("input.observation.images.")
    }
    return {**pictures, "observation.state": golden["input.observation.state"][0].numpy()}


def test_what_the_folder_says(policy: Policy) -> None:
    processor = policy.processor
    assert processor.slots.by_slot == {
        "scene": "observation.images.base",
        "left_wrist": "observation.images.wrist",
        "right_wrist": None,
    }
    assert (processor.prompt_format, processor.resize, processor.formula) == (
        "state",
        "lerobot-bilinear-pad",
        "lerobot",
    )
    assert processor.action_names == ("a0", "a1", "a2", "a3", "a4", "a5", "gripper")
    assert (processor.horizon, processor.max_prompt_tokens, policy.n_action_steps) == (10, 48, 10)
    assert (processor.state_dim, processor.robot_action_dim, processor.relative_mask) == (8, 7, None)


def test_normalised_state_and_tokens(policy: Policy, kind: str, golden, observation) -> None:
    state = policy.processor.state_normalizer.normalize(observation["observation.state"])
    np.testing.assert_allclose(state, golden[f"{kind}.normalised_state"][0].numpy(), atol=EXACT)
    tokens = policy.processor.encode({**observation, "task": TASK}).tokens
    wanted = golden[f"{kind}.tokens"][0][golden[f"{kind}.token_mask"][0].bool()]
    assert tokens.tolist() == wanted.tolist()


def test_actions(policy: Policy, kind: str, golden, observation) -> None:
    complete = {**observation, "task": TASK}
    noise = golden[f"{kind}.noise"]
    normalised = policy.model.sample_actions(collate([policy.processor.encode(complete)]), noise=noise)[..., :7]
    np.testing.assert_allclose(normalised.numpy(), golden[f"{kind}.normalised_actions"].numpy(), atol=ACTIONS)
    actions = policy.infer_batch([complete], noise=noise)[0]
    np.testing.assert_allclose(actions, golden[f"{kind}.actions"][0].numpy(), atol=ACTIONS)
    print(f"\n{kind}: greatest difference {np.abs(actions - golden[f'{kind}.actions'][0].numpy()).max():.2e}", end="")


@pytest.mark.parametrize("text", ["pick_up the\nred cube \n", " pick up_the red cube"])
def test_the_task_is_cleaned_as_lerobot_does(policy: Policy, kind: str, golden, observation, text: str) -> None:
    tokens = policy.processor.encode({**observation, "task": text}).tokens
    assert tokens.tolist() == golden[f"{kind}.tokens"][0][golden[f"{kind}.token_mask"][0].bool()].tolist()


def test_a_policy_that_started_from_a_base(golden, observation, lerobot, tmp_path: Path) -> None:
    """Its config.json has the base's 32 state numbers and a camera that no data had: LeRobot's answer is the same."""
    folder = Folder(tmp_path / "renamed", weights=True)
    folder.as_from_a_base()
    policy = Policy.load(folder.path, config=lerobot.config)
    complete = {FRONT: observation[BASE], HAND: observation[WRIST], STATE: observation[STATE], "task": TASK}
    wanted = golden["full.tokens"][0][golden["full.token_mask"][0].bool()]
    assert policy.processor.encode(complete).tokens.tolist() == wanted.tolist()
    actions = policy.infer_batch([complete], noise=golden["full.noise"])[0]
    np.testing.assert_allclose(actions, golden["full.actions"][0].numpy(), atol=ACTIONS)


def test_lerobots_own_run_from_a_base(shared: Path) -> None:
    """The same from LeRobot's own hand, with one camera. Skipped without the complete records."""
    folder = shared / "golden" / "lerobot" / "checkpoints" / "renamed_base"
    if not folder.is_dir():
        pytest.skip(f"no golden data: {folder} is not there")
    sizes = json.loads((folder / "README.txt").read_text().split("Sizes: ")[1])
    policy = Policy.load(folder, config=ModelConfig(**sizes), tokenizer_path=folder / "paligemma_tokenizer.json")
    top = "observation.images.top"
    assert policy.processor.slots.by_slot == {"scene": top, "left_wrist": None, "right_wrist": None}
    answers = load_file(folder / "golden_actions.safetensors")
    with safe_open(folder / "golden_actions.safetensors", "pt") as file:
        tasks = json.loads(file.metadata()["tasks"])
    for i, task in enumerate(tasks):
        picture, state = answers[f"input.{i}/observation.images.base_0_rgb"], answers[f"input.{i}/{STATE}"]
        seen = {top: picture.numpy(), STATE: state.numpy(), "task": task}
        assert policy.processor.encode(seen).tokens.tolist() == answers[f"lerobot.{i}/tokens"].tolist()
        actions = policy.infer_batch([seen], noise=answers[f"input.{i}/noise"][None])[0]
        np.testing.assert_allclose(actions, answers[f"lerobot.{i}/actions"].numpy(), atol=ACTIONS)


def test_resize_equals_lerobot(shared: Path) -> None:
    raw = load_file(shared / "golden" / "lerobot" / "inputs.safetensors")
    resized = load_file(shared / "golden" / "lerobot" / "outputs.safetensors")
    for sample in range(3):
        picture = raw["raw.observation.images.base_0_rgb"][sample].permute(1, 2, 0).numpy()
        assert picture.shape == (240, 320, 3)
        ours = interpolate_with_pad(picture, 224) * 2 - 1
        wanted = resized["preproc.image_0"][sample].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(ours, wanted, atol=PIXELS)


def test_resize_of_one_channel_equals_lerobot(lerobot) -> None:
    """The same without the complete record: one channel of a 240 x 320 picture."""
    with np.load(GOLDEN / "lerobot" / "raw_channel.npz") as archive:
        channel = archive["sample_0_red"]
    ours = interpolate_with_pad(np.repeat(channel[..., None], 3, axis=-1), 224) * 2 - 1
    wanted = lerobot.batch.images[0, 0, :, :, 0].numpy()
    np.testing.assert_allclose(ours[..., 0], wanted, atol=PIXELS)
    assert np.abs(wanted).max() > 0.9
