"""Our side of `train_step.py`: the network from LeRobot's weights, and one `train_step` as the trainer takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import train_step as shapes
from safetensors.torch import load_file
from torch import Tensor, nn

from pi05.checkpoint.load import load_model
from pi05.data.loader import FEW_SHAPES
from pi05.machine import keep_freed_memory
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05
from pi05.train.activations import apply_from_outside
from pi05.train.method import Part
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.parameters import freeze
from pi05.train.step import LossSettings, TrainState, train_step
from pi05.types import Batch


def versions() -> dict[str, str]:
    """Return the versions that were measured."""
    import pi05

    return {"pi05": pi05.__version__, "torch": torch.__version__}


def sizes() -> ModelConfig:
    """Return the medium network."""
    vision, language, expert = (shapes.SHAPES[name] for name in ("vision", "language", "expert"))
    return ModelConfig(
        image_size=shapes.IMAGE_SIZE,
        patch_size=14,
        vision_width=vision["width"],
        vision_depth=vision["depth"],
        vision_mlp=vision["mlp"],
        vision_heads=vision["heads"],
        vocab_size=shapes.VOCABULARY,
        language_width=language["width"],
        language_mlp=language["mlp"],
        expert_width=expert["width"],
        expert_mlp=expert["mlp"],
        depth=language["depth"],
        num_heads=language["heads"],
        num_kv_heads=language["kv_heads"],
        head_dim=language["head_dim"],
        action_dim=shapes.ACTION_DIMS,
        horizon=shapes.HORIZON,
        max_prompt_tokens=shapes.TOKENS,
    )


class GivenDraws(nn.Module):
    """The network with noise and flow times given instead of drawn."""

    def __init__(self, model: nn.Module, noise: Tensor, time: Tensor) -> None:
        super().__init__()
        self.model, self.noise, self.time = model, noise, time

    def loss(self, batch: Batch, **_: Any) -> Tensor:
        """Return the squared error per element."""
        losses: Tensor = self.model.loss(batch, noise=self.noise, time=self.time)  # type: ignore[operator]
        return losses


def build_ours(case: Part, folder: Path, compile_layers: bool) -> Callable[[], float]:
    """Build network and optimizer on LeRobot's weights and return the step."""
    model = load_model(folder / "model.safetensors", config=sizes())
    return step_on(model, case, load_file(folder / "inputs.safetensors"), compile_layers)


def step_on(model: Pi05, case: Part, inputs: dict[str, Tensor], compile_layers: bool) -> Callable[[], float]:
    """Return the step on a network and a batch."""
    keep_freed_memory()  # as every training on a CPU does
    parameters = freeze(model, case)
    apply_from_outside(model, compile_layers=compile_layers, recompute_activations=0.0)
    settings = AdamSettings(weight_decay=shapes.WEIGHT_DECAY, clip_norm=shapes.CLIP)
    rate = shapes.LEARNING_RATE
    schedule = Schedule(peak=rate, warmup_steps=0, decay_steps=10**6, end=rate)
    blank = torch.zeros_like(inputs["images"][:, :1])
    mask = torch.tensor([True] * shapes.CAMERAS + [False]).expand(shapes.BATCH, -1)
    batch = Batch(
        images=torch.cat([inputs["images"], blank], dim=1),
        image_mask=mask,
        tokens=inputs["tokens"],
        token_mask=inputs["token_mask"],
        actions=inputs["actions"],
    ).trim(bucket=FEW_SHAPES if compile_layers else 1)  # as the trainer's loader does on a CPU
    given = GivenDraws(model, inputs["noise"], inputs["time"])
    state = TrainState(step=0, seed=0, model=given, optimizer=AdamW(parameters, settings, schedule))
    loss = LossSettings(kind="lerobot", robot_action_dim=shapes.ROBOT_DIMS)

    def step() -> float:
        return float(train_step(state, [batch], loss).loss)

    return step
