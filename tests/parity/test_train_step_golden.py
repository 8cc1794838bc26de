"""Three optimizer steps of openpi's `scripts/train.py:train_step` (JAX, float32, no augmentation), reproduced.

Golden: `golden/openpi/tiny/train_noaug.npz`: batch of 3, AdamW with clip 1.0, warm-up 2, peak 1e-3, decay over 10 steps
to 1e-4, EMA 0.99, the same batch in each step, noise and times recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pi05.checkpoint.jax import jax_layout
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05
from pi05.train.optimizer import AdamSettings, Ema, Optimizer, Schedule
from pi05.train.parameters import freeze, kernel_norm
from pi05.train.step import LossSettings, StepResult, TrainState, train_step
from pi05.types import Batch

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "openpi" / "tiny"
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")

SCALAR_TOLERANCE = 2e-5
"""Relative; sums of float32 in another order."""
PARAMETER_TOLERANCE = 2e-5
"""Absolute. AdamW's first steps move each parameter by about the learning rate (3e-4, then 7e-4, then 1e-3) whatever
the size of its gradient; a gradient near epsilon turns float32 noise into a share of such a step."""
WORST_PARAMETER_TOLERANCE = 3e-4
"""Absolute, for the single worst of 290,000 values, for the same reason."""
AGREEING_SHARE = 0.9995


def tiny_config() -> ModelConfig:
    return ModelConfig(
        image_size=224, patch_size=14, vision_width=48, vision_depth=2, vision_mlp=80, vision_heads=4, vocab_size=512,
        language_width=64, language_mlp=128, expert_width=32, expert_mlp=96, depth=3, num_heads=4, num_kv_heads=1,
        head_dim=16, action_dim=32, horizon=10, max_prompt_tokens=48,
    )  # fmt: skip


class RecordedDraws(torch.nn.Module):
    """The network with openpi's recorded noise and times in place of our own draws."""

    def __init__(self, model: Pi05, golden: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.model = model
        self.golden = golden
        self.step = 0

    def loss(self, batch: Batch, noise: Tensor, time: Tensor, flow_samples: int = 1) -> Tensor:
        assert flow_samples == 1
        noise = torch.from_numpy(self.golden[f"noise_{self.step}"])
        time = torch.from_numpy(self.golden[f"time_{self.step}"])
        self.step += 1
        return self.model.loss(batch, noise=noise, time=time)


@dataclass
class Replay:
    results: list[StepResult]
    norms: list[Tensor]
    weights: dict[int, dict[str, Tensor]]
    averages: dict[int, dict[str, Tensor]]


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("train_noaug.npz")


@pytest.fixture(scope="module")
def replay(golden: dict[str, np.ndarray]) -> Replay:
    config = tiny_config()
    model = Pi05(config)
    weights = {name: torch.from_numpy(value) for name, value in load("params.npz").items()}
    model.load_state_dict(jax_layout(config).to_ours(weights))
    inputs = {name: torch.from_numpy(value) for name, value in load("inputs.npz").items()}
    batch = Batch(
        images=torch.stack([inputs[f"image_u8/{camera}"] for camera in CAMERAS], dim=1),
        image_mask=torch.stack([inputs[f"image_mask/{camera}"] for camera in CAMERAS], dim=1),
        tokens=inputs["tokenized_prompt"].long(),
        token_mask=inputs["tokenized_prompt_mask"],
        actions=inputs["actions"],
    ).trim()
    parameters = freeze(model, "full")
    schedule = Schedule(peak=1e-3, warmup_steps=2, decay_steps=10, end=1e-4)
    state = TrainState(
        step=0,
        seed=0,
        model=RecordedDraws(model, golden),
        optimizer=Optimizer(parameters, AdamSettings(), schedule),
        ema=Ema(parameters, 0.99),
    )
    found = Replay([], [], {}, {})
    for step in range(3):
        found.results.append(train_step(state, [batch], LossSettings(kind="openpi")))
        found.norms.append(kernel_norm(parameters))
        found.weights[step] = {name: value.detach().clone() for name, value in parameters.items()}
        found.averages[step] = {name: value.clone() for name, value in state.ema.tensors().items()}
    return found


@pytest.mark.parametrize("step", [0, 1, 2])
def test_scalars_of_each_step(replay: Replay, golden: dict[str, np.ndarray], step: int) -> None:
    result = replay.results[step]
    assert result.learning_rate == pytest.approx(float(golden[f"lr_{step}"]), rel=1e-6)
    assert float(result.loss) == pytest.approx(float(golden[f"loss_{step}"]), rel=SCALAR_TOLERANCE)
    assert float(result.grad_norm) == pytest.approx(float(golden[f"grad_norm_{step}"]), rel=SCALAR_TOLERANCE)
    assert float(replay.norms[step]) == pytest.approx(float(golden[f"param_norm_{step}"]), rel=SCALAR_TOLERANCE)


@pytest.mark.parametrize("kind", ["params", "ema"])
def test_every_parameter_and_its_average(replay: Replay, golden: dict[str, np.ndarray], kind: str) -> None:
    start = f"{kind}_after_2/"
    foreign = {name.removeprefix(start): torch.from_numpy(v) for name, v in golden.items() if name.startswith(start)}
    wanted = jax_layout(tiny_config()).to_ours(foreign)
    found = (replay.weights if kind == "params" else replay.averages)[2]
    assert set(found) == set(wanted)
    difference = torch.cat([(found[name] - value).abs().flatten() for name, value in wanted.items()])
    assert difference.max() < WORST_PARAMETER_TOLERANCE
    assert (difference < PARAMETER_TOLERANCE).float().mean() > AGREEING_SHARE
