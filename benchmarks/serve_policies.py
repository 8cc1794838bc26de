"""Policies of two sizes with random weights, for the benchmarks of the server: what is measured is time, not skill."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from train_step_ours import sizes as medium_sizes

from pi05.data.cameras import assign_slots
from pi05.data.processor import Processor
from pi05.data.statistics import DimStats
from pi05.data.tokenizer import Tokenizer
from pi05.model.config import ModelConfig, tiny
from pi05.model.pi05 import Pi05
from pi05.policy import Policy
from pi05.train.config import TINY_BASE

CAMERAS = {"observation.images.image": "scene", "observation.images.image2": "left_wrist"}
NETWORKS = ("tiny", "medium")


def make_policy(network: str) -> Policy:
    """Return a policy for LIBERO's robot: two cameras, 8 numbers of state, 7 of action."""
    config = sizes(network)
    model = Pi05(config)
    model.initialize(torch.Generator().manual_seed(0))
    processor = Processor(
        slots=assign_slots(tuple(CAMERAS), CAMERAS),
        state_stats=_spread(8),
        action_stats=_spread(7),
        tokenizer=Tokenizer.load(TINY_BASE),
        image_size=config.image_size,
        action_dim=config.action_dim,
        horizon=config.horizon,
        max_prompt_tokens=200,
        fps=20.0,
    )
    return Policy(model.eval(), processor)


def sizes(network: str) -> ModelConfig:
    """Return the sizes of a network."""
    return tiny() if network == "tiny" else medium_sizes()


def observation(seed: int = 0, side: int = 224) -> dict[str, Any]:
    """Return an observation as openpi's LIBERO client sends it."""
    rng = np.random.default_rng(seed)
    return {
        "observation/image": rng.integers(0, 256, (side, side, 3), np.uint8),
        "observation/wrist_image": rng.integers(0, 256, (side, side, 3), np.uint8),
        "observation/state": rng.uniform(-0.9, 0.9, 8).astype(np.float32),
        "prompt": "put the red block on the blue plate",
    }


def _spread(dimensions: int) -> DimStats:
    low, high = -np.ones(dimensions), np.ones(dimensions)
    return DimStats(mean=low * 0, std=high / 2, min=low, max=high, q01=low, q99=high, count=100)
