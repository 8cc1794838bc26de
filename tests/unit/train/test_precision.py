"""What each precision learns: a small regression that needs small steps, at π₀.₅'s learning rate.

A network starts near its target, as in fine-tuning: weights N(0, 0.02), the target 0.002 away, 400 steps from 2.5e-5 to
2.5e-6 on noisy labels. Plain bfloat16 AdamW exists only here and in `benchmarks/optimizer_precision.py`.
"""

from __future__ import annotations

import statistics

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi05.model.config import tiny
from pi05.model.pi05 import Pi05
from pi05.train.low_memory import LowMemoryOptimizer, StateKind
from pi05.train.network import compute_dtype, hold_matrices
from pi05.train.optimizer import AdamSettings, Optimizer, Schedule
from pi05.types import Batch

WIDTH, INPUTS, OUTPUTS, STEPS, RATE = 128, 64, 32, 400, 2.5e-5
SEEDS = (0, 1, 2)
SCHEDULE = Schedule(peak=RATE, warmup_steps=STEPS // 30, decay_steps=STEPS, end=RATE / 10)
SIZES = {"inner": (WIDTH, INPUTS), "middle": (WIDTH, WIDTH), "outer": (OUTPUTS, WIDTH)}


class PlainBfloat16:
    """PyTorch's AdamW on bfloat16 weights, with its moments in bfloat16 as well: what is refused."""

    def __init__(self, values: dict[str, nn.Parameter]) -> None:
        self.values = values
        self.adam = torch.optim.AdamW(values.values(), lr=RATE, betas=(0.9, 0.95), weight_decay=1e-10)

    def apply(self, update: int) -> None:
        torch.nn.utils.clip_grad_norm_(self.values.values(), 1.0)
        self.adam.param_groups[0]["lr"] = SCHEDULE.rate(update)
        self.adam.step()


def predict(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Three layers; the factors make all activations about 1 at weights of 0.02."""
    hidden = F.gelu(x @ weights["inner"].float().T / (0.02 * INPUTS**0.5))
    hidden = F.gelu(hidden @ weights["middle"].float().T / (0.02 * WIDTH**0.5))
    return hidden @ weights["outer"].float().T / (0.02 * WIDTH**0.5)


def learn(kind: str, seed: int, state: StateKind = "float32") -> tuple[float, float]:
    """Return the error left over, as a share of the error at the start, and the share of weights that moved a step."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    start = {name: 0.02 * draw(*size) for name, size in SIZES.items()}
    target = {name: value + 0.002 * draw(*value.shape) for name, value in start.items()}
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    values = {name: nn.Parameter(value.to(dtype)) for name, value in start.items()}
    optimizer: Optimizer | LowMemoryOptimizer | PlainBfloat16
    if kind == "plain":
        optimizer = PlainBfloat16(values)
    elif (kind, state) == ("float32", "float32"):
        optimizer = Optimizer(values, AdamSettings(), SCHEDULE)
    else:
        optimizer = LowMemoryOptimizer(values, AdamSettings(), SCHEDULE, seed=seed, state=state)
    test = draw(4096, INPUTS)
    wanted = predict(target, test)
    scale = float((predict(start, test) - wanted).square().mean())
    moved = []
    for step in range(STEPS):
        x = draw(64, INPUTS)
        labels = predict(target, x) + 3 * scale**0.5 * draw(64, OUTPUTS)
        for value in values.values():
            value.grad = None
        ((predict(values, x) - labels).square().mean() / scale).backward()
        before = values["middle"].detach().clone()
        optimizer.apply(step)
        if STEPS // 30 < step < STEPS // 4:  # about the peak of the schedule
            moved.append(float((values["middle"].detach() != before).float().mean()))
    with torch.no_grad():
        left = float((predict(values, test) - wanted).square().mean())
    return left / scale, statistics.mean(moved)


@pytest.fixture(scope="module")
def float32() -> list[float]:
    return [learn("float32", seed)[0] for seed in SEEDS]


@pytest.mark.parametrize(
    ("kind", "state"), [("bf16-sr", "float32"), ("bf16-sr", "8bit"), ("float32", "8bit"), ("float32", "4bit")]
)
def test_it_reaches_the_loss_of_float32_within_noise(float32: list[float], kind: str, state: StateKind) -> None:
    """Noise: what the same training leaves over with other data and initial weights."""
    found = [learn(kind, seed, state)[0] for seed in SEEDS]
    assert statistics.mean(found) - statistics.mean(float32) < 2 * statistics.stdev(float32)
    assert statistics.mean(found) < 1.05 * statistics.mean(float32)


def test_plain_bfloat16_does_not(float32: list[float]) -> None:
    found, moved = zip(*(learn("plain", seed) for seed in SEEDS), strict=True)
    assert min(found) > 1.8 * max(float32)
    assert min(found) - max(float32) > 10 * statistics.stdev(float32)
    assert statistics.mean(moved) < 0.35, "70 % and more do not move, even at the schedule's peak"


def small_batch() -> Batch:
    generator, sizes = torch.Generator().manual_seed(0), tiny()
    return Batch(
        images=torch.randint(0, 256, (2, 2, sizes.image_size, sizes.image_size, 3), generator=generator).byte(),
        image_mask=None,
        tokens=torch.randint(0, sizes.vocab_size, (2, 12), generator=generator),
        token_mask=None,
        actions=torch.randn((2, sizes.horizon, sizes.action_dim), generator=generator),
    )


def test_bfloat16_weights_give_the_loss_and_the_gradients_of_mixed() -> None:
    """The towers round their matrices at every use anyway; only the embedding is rounded once more than in mixed."""
    losses, gradients = [], []
    for precision in ("mixed", "bf16-sr"):
        model = Pi05(tiny(), compute_dtype(precision))
        model.initialize(torch.Generator().manual_seed(0))
        model.embedding.weight.data = model.embedding.weight.data.bfloat16().float()
        hold_matrices(model, precision)
        loss = model.loss(small_batch(), generator=torch.Generator().manual_seed(1)).mean()
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
    assert torch.equal(*losses)
    mixed, narrow = gradients
    assert {value.dtype for value in mixed.values()} == {torch.float32}
    assert narrow["language.layers.0.mlp.up.weight"].dtype == torch.bfloat16
    assert mixed.keys() == narrow.keys()
    for name in set(mixed) - {"embedding.weight"}:
        assert torch.equal(mixed[name].to(narrow[name].dtype), narrow[name]), name


def test_sums_of_gradients_in_bfloat16_lose_less_than_they_vary() -> None:
    """Accumulation over N passes in bfloat16: below a hundredth of the sum for 16 passes, where one pass differs from
    another by more than its own size."""
    generator = torch.Generator().manual_seed(0)
    passes = (torch.randn(16, 10_000, generator=generator) + 1).bfloat16()
    total = torch.zeros(10_000, dtype=torch.bfloat16)
    for gradient in passes:
        total += gradient
    exact = passes.float().sum(dim=0)
    assert float((total.float() - exact).norm() / exact.norm()) < 0.01
    assert abs(float((total.float() - exact).mean() / exact.mean())) < 2e-4, "no bias"
