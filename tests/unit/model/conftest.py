"""A network of a few thousand random weights, and a batch with a masked camera, padding and a short prompt."""

from __future__ import annotations

import pytest
import torch

from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05
from pi05.types import Batch


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return ModelConfig(
        image_size=12, patch_size=4, vision_width=16, vision_depth=2, vision_mlp=24, vision_heads=2, vocab_size=40,
        language_width=24, language_mlp=32, expert_width=20, expert_mlp=28, depth=3, num_heads=4, num_kv_heads=2,
        head_dim=8, action_dim=6, horizon=5, max_prompt_tokens=24,
    )  # fmt: skip


def random_model(config: ModelConfig) -> Pi05:
    """Return a network in which nothing is zero: no gate closed, no bias without effect."""
    generator = torch.Generator().manual_seed(0)
    model = Pi05(config)
    with torch.no_grad():
        for parameter in model.parameters():
            std = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.normal_(std=std, generator=generator)
    return model


@pytest.fixture
def model(config) -> Pi05:
    return random_model(config)


@pytest.fixture
def batch(config) -> Batch:
    """Sample 0: one camera, short prompt; sample 1: two cameras; sample 2: all. The longest prompt has 11 of 24."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([3, 11, 7])
    side = config.image_size
    return Batch(
        images=torch.randint(0, 256, (3, 3, side, side, 3), generator=generator, dtype=torch.uint8),
        image_mask=torch.tensor([[True, False, False], [True, True, False], [True, True, True]]),
        tokens=torch.randint(1, config.vocab_size, (3, config.max_prompt_tokens), generator=generator),
        token_mask=torch.arange(config.max_prompt_tokens)[None] < lengths[:, None],
        actions=torch.randn(3, config.horizon, config.action_dim, generator=generator),
        action_mask=torch.arange(config.horizon)[None] < torch.tensor([5, 3, 4])[:, None],
    )


@pytest.fixture
def noise(config) -> torch.Tensor:
    return torch.randn(3, config.horizon, config.action_dim, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def time() -> torch.Tensor:
    return torch.tensor([0.9, 0.35, 0.02])
