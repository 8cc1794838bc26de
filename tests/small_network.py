"""A network small enough to train in a test, and one step of it."""

from __future__ import annotations

import torch
from torch import nn

from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05
from pi05.train.optim.adamw import AdamSettings, AdamW, Ema, Schedule
from pi05.train.step import LossSettings, TrainState
from pi05.types import Batch

CONFIG = ModelConfig(
    image_size=8, patch_size=4, vision_width=16, vision_depth=2, vision_mlp=24, vision_heads=2, vocab_size=50,
    language_width=16, language_mlp=24, expert_width=12, expert_mlp=20, depth=2, num_heads=2, num_kv_heads=1,
    head_dim=8, action_dim=6, horizon=5, max_prompt_tokens=16,
)  # fmt: skip
ROBOT_DIM = 4
SETTINGS = LossSettings(kind="masked", robot_action_dim=ROBOT_DIM)


def make_model(seed: int = 0) -> Pi05:
    model = Pi05(CONFIG)
    generator = torch.Generator().manual_seed(seed)
    model.initialize(generator)
    for parameter in model.parameters():  # open the gates, so that every part has a gradient
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def make_batch(size: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    valid_steps = torch.randint(1, CONFIG.horizon + 1, (size, 1), generator=generator)
    return Batch(
        images=torch.randint(0, 256, (size, 2, 8, 8, 3), generator=generator, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.randint(0, 50, (size, 8), generator=generator),
        token_mask=None,
        actions=torch.randn((size, CONFIG.horizon, CONFIG.action_dim), generator=generator),
        action_mask=torch.arange(CONFIG.horizon) < valid_steps,
        trimmed=True,
    )


def make_state(model: nn.Module, parameters: dict[str, nn.Parameter], ema: bool = False) -> TrainState:
    schedule = Schedule(peak=1e-2, warmup_steps=0, decay_steps=100, end=1e-2)
    return TrainState(
        step=0,
        seed=5,
        model=model,
        optimizer=AdamW(parameters, AdamSettings(clip_norm=1e9), schedule),
        ema=Ema(parameters, 0.9) if ema else None,
    )
