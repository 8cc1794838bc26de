"""Two small trainings that need small steps, and the plain bfloat16 AdamW that the trainer refuses.

`regress`: a network of three layers starts near its target, as in fine-tuning: weights N(0, 0.02), the target 0.002
away, 400 steps from 2.5e-5 to 2.5e-6 on noisy labels. `fine_tune`: the packaged base model learns random actions of
random prompts by flow matching, with the trainer's own step. Used by `optimizer_precision.py` and by
`tests/unit/train/optim/test_precision.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi05 import load_model
from pi05.train.config import TINY_BASE
from pi05.train.network import hold_matrices
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind
from pi05.train.parameters import freeze
from pi05.train.step import LossSettings, TrainState, train_step
from pi05.types import Batch

RATE = 2.5e-5
WIDTH, INPUTS, OUTPUTS, STEPS = 128, 64, 32, 400
SIZES = {"inner": (WIDTH, INPUTS), "middle": (WIDTH, WIDTH), "outer": (OUTPUTS, WIDTH)}
STATES: dict[str, StateKind] = {"float32": "float32", "8bit": "8bit", "4bit": "4bit"}
FLOW_STEPS, FLOW_SAMPLES, FLOW_BATCH = 200, 64, 16


class PlainBfloat16(AdamW):
    """PyTorch's AdamW on weights in bfloat16, which keeps its moments in bfloat16 as well."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: AdamSettings, schedule: Schedule) -> None:
        super().__init__(parameters, settings, schedule)
        self._adam = torch.optim.AdamW(
            self.parameters.values(), betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
        )

    def moment_bytes(self) -> int:
        """Return the bytes of both moments."""
        return sum(2 * value.nbytes for value in self.parameters.values())


def weight_dtype(mode: str) -> torch.dtype:
    """Return the precision of the weights in a mode such as `bf16-sr, 8bit`."""
    return torch.float32 if mode.startswith("float32") else torch.bfloat16


def build(mode: str, parameters: Mapping[str, nn.Parameter], schedule: Schedule, seed: int, clip: float = 1.0) -> Any:
    """Return the optimizer of a mode: precision of the weights, then that of the moments when it is not float32."""
    settings = AdamSettings(clip_norm=clip)
    if mode == "float32":
        return AdamW(parameters, settings, schedule)
    if mode == "plain bfloat16":
        return PlainBfloat16(parameters, settings, schedule)
    state = STATES[mode.partition(", ")[2] or "float32"]
    return LowMemoryOptimizer(parameters, settings, schedule, seed=seed, state=state)


def fine_tuning(steps: int, rate: float = RATE) -> Schedule:
    """Return the schedule: π₀.₅'s, shortened."""
    return Schedule(peak=rate, warmup_steps=steps // 30, decay_steps=steps, end=rate / 10)


def predict(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Three layers; the factors make all activations about 1 at weights of 0.02."""
    hidden = F.gelu(x @ weights["inner"].float().T / (0.02 * INPUTS**0.5))
    hidden = F.gelu(hidden @ weights["middle"].float().T / (0.02 * WIDTH**0.5))
    return hidden @ weights["outer"].float().T / (0.02 * WIDTH**0.5)


def regress(mode: str, seed: int) -> float:
    """Return the error left over after the training, as a share of the error at its start."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    start = {name: 0.02 * draw(*size) for name, size in SIZES.items()}
    target = {name: value + 0.002 * draw(*value.shape) for name, value in start.items()}
    values = {name: nn.Parameter(value.to(weight_dtype(mode))) for name, value in start.items()}
    optimizer = build(mode, values, fine_tuning(STEPS), seed)
    test = draw(4096, INPUTS)
    wanted = predict(target, test)
    scale = float((predict(start, test) - wanted).square().mean())
    for step in range(STEPS):
        x = draw(64, INPUTS)
        labels = predict(target, x) + 3 * scale**0.5 * draw(64, OUTPUTS)
        optimizer.begin(step)
        ((predict(values, x) - labels).square().mean() / scale).backward()
        optimizer.apply(step)
    with torch.no_grad():
        return float((predict(values, test) - wanted).square().mean()) / scale


def fine_tune(mode: str, seed: int) -> float:
    """Return the flow loss on the training samples after 200 steps, over that before them; float32 arithmetic."""
    model = load_model(TINY_BASE)
    if weight_dtype(mode) == torch.bfloat16:
        hold_matrices(model, "bf16-sr")
    parameters = freeze(model, "full")
    if mode == "plain bfloat16":
        for value in parameters.values():
            value.data = value.data.bfloat16()
    sizes, generator = model.config, torch.Generator().manual_seed(seed)
    side, count = sizes.image_size, FLOW_SAMPLES
    samples = Batch(
        images=torch.randint(0, 256, (count, 1, side, side, 3), generator=generator, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.randint(1, sizes.vocab_size, (count, 12), generator=generator),
        token_mask=None,
        actions=torch.randn((count, sizes.horizon, sizes.action_dim), generator=generator).clamp(-2, 2),
        trimmed=True,
    )
    optimizer = build(mode, parameters, fine_tuning(FLOW_STEPS), seed)
    state = TrainState(step=0, seed=seed, model=model, optimizer=optimizer)

    def measure() -> float:
        with torch.no_grad():
            draws = torch.Generator().manual_seed(99)
            return float(model.loss(samples, generator=draws, flow_samples=4)[..., :7].mean())

    before = measure()
    for _ in range(FLOW_STEPS):
        rows = torch.randperm(count, generator=generator)[:FLOW_BATCH]
        part = Batch(
            images=samples.images[rows],
            image_mask=None,
            tokens=samples.tokens[rows],
            token_mask=None,
            actions=None if samples.actions is None else samples.actions[rows],
            trimmed=True,
        )
        train_step(state, [part], LossSettings(kind="openpi", robot_action_dim=7))
    return measure() / before
