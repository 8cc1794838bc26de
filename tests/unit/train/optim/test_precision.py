"""What each precision learns: two small trainings that need small steps, at π₀.₅'s learning rate.

The trainings, and the plain bfloat16 AdamW that is refused, are those of `benchmarks/precision_task.py`.
"""

from __future__ import annotations

import statistics
from types import ModuleType

import pytest
import torch
from programs import load_program

from pi05.model.config import tiny
from pi05.model.pi05 import Pi05
from pi05.train.network import compute_dtype, hold_matrices
from pi05.types import Batch

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def task() -> ModuleType:
    return load_program("benchmarks/precision_task.py")


@pytest.fixture(scope="module")
def float32(task: ModuleType) -> list[float]:
    return [task.regress("float32", seed) for seed in SEEDS]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["bf16-sr", "bf16-sr, 8bit", "float32, 8bit", "float32, 4bit"])
def test_it_reaches_the_loss_of_float32_within_noise(task: ModuleType, float32: list[float], mode: str) -> None:
    """Noise: what the same training leaves over with other data and initial weights."""
    found = [task.regress(mode, seed) for seed in SEEDS]
    assert statistics.mean(found) - statistics.mean(float32) < 2 * statistics.stdev(float32)
    assert statistics.mean(found) < 1.05 * statistics.mean(float32)


def test_plain_bfloat16_does_not(task: ModuleType, float32: list[float]) -> None:
    found = [task.regress("plain bfloat16", seed) for seed in SEEDS]
    assert min(found) > 1.8 * max(float32)
    assert min(found) - max(float32) > 10 * statistics.stdev(float32)


@pytest.mark.slow
def test_the_network_itself_learns_in_bfloat16_with_stochastic_rounding_and_not_without(task: ModuleType) -> None:
    """The packaged base, 200 steps of the trainer at 2.5e-5: loss after over loss before."""
    wanted, rounded, plain = (task.fine_tune(mode, 0) for mode in ("float32", "bf16-sr, 8bit", "plain bfloat16"))
    assert wanted < 0.8
    assert abs(rounded - wanted) < 0.01
    assert plain > 0.95


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
