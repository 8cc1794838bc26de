"""The recorded networks of openpi and LeRobot, ready to compare with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pi05.model.config import ModelConfig
from pi05.types import Batch

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
IMAGE_STEPS = 2**24 - 1
Compare = Callable[[str, Tensor, Any, float], None]


@dataclass(frozen=True)
class Recorded:
    """A peer's network on disk, what it was given, and what it computed."""

    weights: Path
    config: ModelConfig
    batch: Batch
    noise: Tensor
    time: Tensor
    sample_noise: Tensor
    outputs: dict[str, np.ndarray]
    extra: dict[str, Any]


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def openpi_recording(precision: str) -> Recorded:
    folder = GOLDEN / "openpi" / "tiny"
    inputs = {name: torch.from_numpy(value) for name, value in arrays(folder / "inputs.npz").items()}
    config = ModelConfig(
        image_size=224, patch_size=14, vision_width=48, vision_depth=2, vision_mlp=80, vision_heads=4, vocab_size=512,
        language_width=64, language_mlp=128, expert_width=32, expert_mlp=96, depth=3, num_heads=4, num_kv_heads=1,
        head_dim=16, action_dim=32, horizon=10, max_prompt_tokens=48,
    )  # fmt: skip
    batch = Batch(
        images=torch.stack([inputs[f"image_u8/{camera}"] for camera in CAMERAS], dim=1),
        image_mask=torch.stack([inputs[f"image_mask/{camera}"] for camera in CAMERAS], dim=1),
        tokens=inputs["tokenized_prompt"].long(),
        token_mask=inputs["tokenized_prompt_mask"],
        actions=inputs["actions"],
    )
    outputs = arrays(folder / f"outputs_{precision}.npz")
    extra = {"grads": arrays(folder / "grads_f32.npz"), "inputs": inputs}
    return Recorded(
        folder / "params.npz", config, batch, inputs["noise"], inputs["time"], inputs["sample_noise"], outputs, extra
    )


@pytest.fixture(scope="session")
def openpi() -> Recorded:
    """openpi's JAX model, float32."""
    return openpi_recording("f32")


@pytest.fixture(scope="session")
def openpi_bf16() -> Recorded:
    """openpi's JAX model with float32 parameters and bfloat16 arithmetic."""
    return openpi_recording("bf16")


@pytest.fixture(scope="session")
def lerobot() -> Recorded:
    """LeRobot's model, float32; its third camera is missing: an image of -1, masked."""
    folder = GOLDEN / "lerobot"
    golden = arrays(folder / "golden.npz")
    config = ModelConfig(
        image_size=224, patch_size=14, vision_width=48, vision_depth=2, vision_mlp=96, vision_heads=4, vocab_size=1024,
        language_width=64, language_mlp=128, expert_width=32, expert_mlp=64, depth=3, num_heads=8, num_kv_heads=1,
        head_dim=16, action_dim=32, horizon=10, max_prompt_tokens=48,
    )  # fmt: skip
    fixed_point = [golden[f"image_{i}_high"] * 65536.0 + golden[f"image_{i}_low"] for i in (0, 1)]
    cameras = [torch.from_numpy(image / IMAGE_STEPS * 2 - 1).float() for image in fixed_point]
    images = torch.stack([*cameras, torch.full_like(cameras[0], -1.0)], dim=1)
    batch = Batch(
        images=images,
        image_mask=torch.tensor([True, True, False]).expand(len(images), 3),
        tokens=torch.from_numpy(golden["tokens"]),
        token_mask=torch.from_numpy(golden["token_mask"]),
        actions=torch.from_numpy(golden["actions_padded"]),
    )
    noise, time = torch.from_numpy(golden["noise"]), torch.from_numpy(golden["time"])
    extra = {"grads": arrays(folder / "grads.npz"), **json.loads((folder / "golden.json").read_text())}
    return Recorded(folder / "weights.safetensors", config, batch, noise, time, noise, golden, extra)


@pytest.fixture
def compare() -> Compare:
    """Return a check of the greatest absolute difference; what it measured is printed (pytest -s shows it)."""

    def check(stage: str, ours: Tensor, golden: Any, tolerance: float) -> None:
        golden = torch.as_tensor(np.asarray(golden))
        assert ours.shape == golden.shape, f"{stage}: shape {tuple(ours.shape)}, golden {tuple(golden.shape)}"
        assert golden.abs().max() > 0, f"{stage}: an empty comparison"
        worst = float((ours.detach().double() - golden.double()).abs().max())
        print(f"\n{stage}: greatest difference {worst:.2e}, allowed {tolerance:.0e}", end="")
        assert worst <= tolerance, f"{stage}: greatest difference {worst:.3g}, allowed {tolerance:.3g}"

    return check
