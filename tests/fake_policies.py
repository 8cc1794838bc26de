"""Untrained policies for the table-top robot, in memory and as checkpoint folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi05.checkpoint.store import Checkpoint, save_checkpoint
from pi05.data.cameras import assign_slots
from pi05.data.processor import Processor
from pi05.data.statistics import DimStats
from pi05.data.tokenizer import Tokenizer
from pi05.model.config import tiny
from pi05.model.pi05 import Pi05
from pi05.policy import Policy

LIBERO_SLOTS = {"observation.images.image": "scene", "observation.images.image2": "left_wrist"}
CAMERAS = ("observation.images.scene", "observation.images.wrist")


def make_policy(tokenizer: Path, *, seed: int = 0, **changes: Any) -> Policy:
    """Return an untrained tiny policy; `changes` go to its processor."""
    low, high = np.array([-0.2, -0.2, 0.0]), np.array([0.2, 0.2, 1.0])
    stats = DimStats(mean=(low + high) / 2, std=(high - low) / 4, min=low, max=high, q01=low, q99=high, count=100)
    config = tiny()
    settings: dict[str, Any] = {
        "slots": assign_slots(CAMERAS),
        "state_stats": stats,
        "action_stats": stats,
        "tokenizer": Tokenizer.load(tokenizer),
        "image_size": config.image_size,
        "action_dim": config.action_dim,
        "horizon": config.horizon,
        "max_prompt_tokens": config.max_prompt_tokens,
        "fps": 10.0,
        "state_names": ("x_m", "y_m", "opening"),
        "action_names": ("x_m", "y_m", "opening"),
    }
    model = Pi05(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():  # no branch closed, so that every input counts
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return Policy(model.eval(), Processor(**(settings | changes)))


def make_libero_policy(tokenizer: Path) -> Policy:
    """Return an untrained tiny policy for LIBERO's robot, with its rate, cameras and numbers."""
    return make_policy(
        tokenizer,
        slots=assign_slots(("observation.images.image", "observation.images.image2"), LIBERO_SLOTS),
        state_stats=_spread(8),
        action_stats=_spread(7),
        state_names=(),
        action_names=(),
        fps=20.0,
        max_prompt_tokens=120,
    )


def _spread(dimensions: int) -> DimStats:
    low, high = -np.ones(dimensions), np.ones(dimensions)
    return DimStats(mean=low * 0, std=high / 2, min=low, max=high, q01=low, q99=high, count=100)


def save_policy(folder: Path, policy: Policy, **config: Any) -> Path:
    """Write the policy as a checkpoint folder, as training does."""
    tokenizer = policy.processor.tokenizer
    settings = {
        "model": policy.model.config.to_dict(),
        "processor": policy.processor.to_dict(),
        "base": {"path": "nowhere", "sha256": "0" * 64},
        "step": 7,
        "pi05_version": "0.1.0",
        "fps": policy.fps,
    }
    checkpoint = Checkpoint(
        config=settings | config,
        weights={name: value.detach().clone() for name, value in policy.model.state_dict().items()},
        tokenizer_name=tokenizer.file_name,
        tokenizer_bytes=tokenizer.file_bytes(),
    )
    return save_checkpoint(folder, checkpoint)
