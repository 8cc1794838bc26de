"""The augmentation equals what augmax made of the same draws inside openpi's JAX code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pi05.data.augment import CROP, AugmentDraws, augment

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
TOLERANCE = 1e-4
"""In units of [-1, 1]; 7e-5 was measured. augmax interpolates in float32 at float32 coordinates, which leaves 4e-5."""
COLOUR_TOLERANCE = 1e-5
"""Without resampling only the order of float32 operations differs; 3e-6 was measured."""
EVERY = 6


@pytest.fixture(scope="module")
def draws() -> list[dict[str, Any]]:
    return json.loads((GOLDEN / "processing" / "augment_draws.json").read_text())


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "openpi" / "tiny" / "inputs.npz") as inputs:
        return {camera: inputs[f"image_u8/{camera}"] for camera in CAMERAS}


def recorded(draws: list[dict[str, Any]], seed: int, cameras: list[str]) -> AugmentDraws:
    """Return openpi's draws of one batch of three samples in our form."""
    table = {(draw["cam"], draw["b"]): draw for draw in draws if draw["seed"] == seed}
    play = 224 * (1 - CROP) / 2  # pixels to each side

    def per_sample(name: str, scale: float = 1.0) -> torch.Tensor:
        return torch.tensor([table["base_0_rgb", b][name] / scale for b in range(3)])

    def per_image(name: str) -> torch.Tensor:
        return torch.tensor([[table[camera, b][name] for camera in cameras] for b in range(3)])

    return AugmentDraws(
        crop_y=per_sample("cy", play),
        crop_x=per_sample("cx", play),
        angle=per_sample("theta"),
        brightness=per_image("brightness"),
        contrast=per_image("contrast"),
        hue=per_image("hue"),
        apply=per_image("apply"),
    )


@pytest.mark.parametrize("seed", [100, 101])
@pytest.mark.parametrize("as_float", [False, True])
def test_equals_augmax(seed: int, as_float: bool, draws: list[dict[str, Any]], pictures: dict[str, np.ndarray]) -> None:
    images = torch.from_numpy(np.stack([pictures[camera] for camera in CAMERAS], axis=1))
    before = images.float() / 255 * 2 - 1 if as_float else images
    wrist = ["wrist" in camera for camera in CAMERAS]
    kept = before.clone()
    ours = augment(before, wrist, recorded(draws, seed, list(CAMERAS))).numpy()[:, :, ::EVERY, ::EVERY]
    assert torch.equal(before, kept), "the images that were given must stay as they are"
    with np.load(GOLDEN / "processing" / "augment.npz") as golden:
        for number, camera in enumerate(CAMERAS):
            tolerance = COLOUR_TOLERANCE if wrist[number] else TOLERANCE
            assert np.abs(ours[:, number] - golden[f"{seed}/{camera}"]).max() < tolerance, camera


def test_both_wrists_share_their_draws(draws: list[dict[str, Any]]) -> None:
    """What `draw` builds in is a fact about openpi."""
    table = {(draw["seed"], draw["b"], draw["cam"]): draw for draw in draws}
    for (seed, sample, camera), left in table.items():
        if camera == "left_wrist_0_rgb":
            right, scene = table[seed, sample, "right_wrist_0_rgb"], table[seed, sample, "base_0_rgb"]
            assert (left["hue"], left["apply"]) == (right["hue"], right["apply"])
            assert left["hue"] != scene["hue"]


def test_full_pictures_equal_augmax(shared: Path, draws: list[dict[str, Any]], pictures: dict[str, np.ndarray]) -> None:
    golden = np.load(shared / "golden" / "openpi" / "extras" / "augment.npz")
    images = torch.from_numpy(pictures["base_0_rgb"])[:, None]
    for number in range(2):
        ours = augment(images, [False], recorded(draws, 100 + number, ["base_0_rgb"])).numpy()
        assert np.abs(ours[:, 0] - golden[f"aug{number}/base_0_rgb"]).max() < TOLERANCE
