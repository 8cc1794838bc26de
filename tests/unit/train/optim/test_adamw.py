"""AdamW, schedule, clipping and the moving average against written-out references."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pi05.errors import CheckpointError
from pi05.train.optim.adamw import AdamSettings, AdamW, Ema, Schedule, clip_gradients

OPENPI_DEFAULT = {
    0: 2.497472451068461e-08, 1: 4.994944902136922e-08, 500: 1.2512487046478782e-05, 999: 2.4975024643936194e-05,
    1000: 2.5e-05, 5000: 2.3960221369634382e-05, 10000: 2.0063353076693602e-05, 15500: 1.375e-05, 29999: 2.5e-06,
    30000: 2.5e-06, 100000: 2.5e-06,
}  # fmt: skip
OPENPI_LIBERO = {
    0: 4.998582880944014e-09, 500: 2.5047484086826444e-06, 5000: 2.500249865988735e-05, 9999: 4.9995000154012814e-05,
    10000: 5e-05, 30000: 5e-05,
}  # fmt: skip
FLOAT32_RELATIVE = 1e-3
"""openpi computes the rate in float32, where its small first values cancel."""


@pytest.mark.parametrize(
    ("schedule", "recorded"),
    [
        (Schedule(peak=2.5e-5, warmup_steps=1_000, decay_steps=30_000, end=2.5e-6), OPENPI_DEFAULT),
        (Schedule(peak=5e-5, warmup_steps=10_000, decay_steps=1_000_000, end=5e-5), OPENPI_LIBERO),
    ],
)
def test_schedule_equals_openpi(schedule: Schedule, recorded: dict[int, float]) -> None:
    for step, rate in recorded.items():
        assert schedule.rate(step) == pytest.approx(rate, rel=FLOAT32_RELATIVE if step < 1_000 else 1e-5)


def test_schedule_without_warmup_starts_at_the_peak() -> None:
    schedule = Schedule(peak=1.0, warmup_steps=0, decay_steps=10, end=0.1)
    assert [schedule.rate(step) for step in (0, 5, 10, 11)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def parameters(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": nn.Parameter(torch.randn(5, 3, generator=generator)),
        "b.bias": nn.Parameter(torch.randn(7, generator=generator)),
        "unused": nn.Parameter(torch.randn(2, generator=generator)),
    }


def set_gradients(values: dict[str, nn.Parameter], seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in values.items():
        drawn = torch.randn(parameter.shape, generator=generator) * scale
        parameter.grad = None if name == "unused" else drawn


def reference(values: dict[str, torch.Tensor], gradients: list[dict[str, torch.Tensor]], rates: list[float]) -> None:
    """AdamW as optax writes it, in float64; moves `values` in place."""
    beta1, beta2, eps, decay, clip = 0.9, 0.95, 1e-8, 0.1, 1.0
    first = {name: torch.zeros_like(value) for name, value in values.items()}
    second = {name: torch.zeros_like(value) for name, value in values.items()}
    for count, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradient.values()))
        for name, g in gradient.items():
            g = g / norm * clip if norm >= clip else g
            first[name] = beta1 * first[name] + (1 - beta1) * g
            second[name] = beta2 * second[name] + (1 - beta2) * g.square()
            update = first[name] / (1 - beta1**count) / ((second[name] / (1 - beta2**count)).sqrt() + eps)
            values[name] -= rate * (update + decay * values[name])


@pytest.mark.parametrize("scale", [0.01, 10.0])
def test_adamw_with_clipping_equals_the_formula(scale: float) -> None:
    schedule = Schedule(peak=0.1, warmup_steps=2, decay_steps=6, end=0.01)
    values = parameters()
    expected = {name: value.detach().double().clone() for name, value in values.items() if name != "unused"}
    optimizer = AdamW(values, AdamSettings(weight_decay=0.1), schedule)
    gradients = []
    for step in range(6):
        set_gradients(values, step, scale)
        gradients.append({name: p.grad.double() for name, p in values.items() if p.grad is not None})
        norm, rate = optimizer.apply(step)
        assert rate == schedule.rate(step)
        wanted = math.sqrt(sum(float(g.square().sum()) for g in gradients[-1].values()))
        assert float(norm) == pytest.approx(wanted, rel=1e-5)
    reference(expected, gradients, [schedule.rate(step) for step in range(6)])
    for name, value in expected.items():
        assert torch.allclose(values[name].double(), value, atol=1e-6), name
    assert torch.equal(values["unused"], parameters()["unused"])


def test_gradients_below_the_limit_are_untouched() -> None:
    values = parameters()
    set_gradients(values, 0, 0.01)
    before = {name: p.grad.clone() for name, p in values.items() if p.grad is not None}
    clip_gradients(values.values(), 1.0)
    assert all(torch.equal(values[name].grad, gradient) for name, gradient in before.items())


def test_clipped_gradients_have_the_norm_of_the_limit() -> None:
    values = parameters()
    set_gradients(values, 0, 0.1)
    before = float(clip_gradients(values.values(), 0.25))
    assert before > 0.25
    after = math.sqrt(sum(float(p.grad.double().square().sum()) for p in values.values() if p.grad is not None))
    assert after == pytest.approx(0.25, rel=1e-6), "no epsilon beside the norm"


def test_state_round_trip_continues_bit_for_bit() -> None:
    schedule = Schedule(peak=0.1, warmup_steps=0, decay_steps=10, end=0.1)

    def step(values: dict[str, nn.Parameter], optimizer: AdamW, number: int) -> None:
        set_gradients(values, number, 1.0)
        optimizer.apply(number)

    whole = parameters()
    optimizer = AdamW(whole, AdamSettings(), schedule)
    for number in range(3):
        step(whole, optimizer, number)
    halved = {name: nn.Parameter(value.detach().clone()) for name, value in whole.items()}
    restored = AdamW(halved, AdamSettings(), schedule)
    tensors = optimizer.tensors()
    assert len(tensors) == 6
    restored.load_tensors({name: value.clone() for name, value in tensors.items()})
    for number in range(3, 6):
        step(whole, optimizer, number)
        step(halved, restored, number)
    assert all(torch.equal(whole[name], halved[name]) for name in whole)


def test_state_of_other_parameters_is_refused() -> None:
    schedule = Schedule(peak=0.1, warmup_steps=0, decay_steps=10, end=0.1)
    values = parameters()
    optimizer = AdamW(values, AdamSettings(), schedule)
    set_gradients(values, 0, 1.0)
    optimizer.apply(0)
    fewer = AdamW({"a.weight": values["a.weight"]}, AdamSettings(), schedule)
    with pytest.raises(CheckpointError, match="other parameters"):
        fewer.load_tensors(optimizer.tensors())
    damaged = optimizer.tensors()
    damaged["exp_avg/a.weight"] = torch.zeros(3, 5)
    with pytest.raises(CheckpointError, match=r"a\.weight is incomplete or has another shape"):
        optimizer.load_tensors(damaged)


def test_ema_follows_the_weights_and_stands_in_for_them() -> None:
    values = parameters()
    ema = Ema(values, decay=0.9)
    expected = {name: value.detach().clone() for name, value in values.items()}
    for number in range(3):
        for name, value in values.items():
            value.data += number + 1.0
            expected[name] = 0.9 * expected[name] + 0.1 * value.detach()
        ema.update()
    weights = {name: value.detach().clone() for name, value in values.items()}
    with ema.in_place():
        assert all(torch.allclose(values[name], expected[name], atol=1e-6) for name in values)
    assert all(torch.equal(values[name], weights[name]) for name in values)
    other = Ema(parameters(1), decay=0.9)
    other.load_tensors({**ema.tensors(), "frozen": torch.zeros(1)})
    assert all(torch.equal(other.tensors()[name], ema.tensors()[name]) for name in values)


def test_ema_is_put_back_after_an_error() -> None:
    values = parameters()
    ema = Ema(values, decay=0.5)
    values["b.bias"].data.zero_()
    with pytest.raises(RuntimeError, match="inside"), ema.in_place():
        raise RuntimeError("inside")
    assert values["b.bias"].abs().sum() == 0
