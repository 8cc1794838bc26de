"""Weights that do not move, that move too far, and adapters that add nothing."""

from __future__ import annotations

import pytest
import torch
from small_network import SETTINGS, make_batch, make_model
from torch import nn

from pi05.model.lora import LoraSpec, add_lora, lora_modules
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.step import TrainState, train_step
from pi05.train.watchers.weights import (
    AdapterWatch,
    WeightMeasures,
    WeightWatch,
    added_square,
    judge_adapter,
    judge_weights,
)


def take_steps(rate: float, count: int = 12) -> tuple[WeightMeasures, WeightWatch]:
    """Train the small network; return what the last step did."""
    model = make_model()
    parameters = dict(model.named_parameters())
    schedule = Schedule(peak=rate, warmup_steps=0, decay_steps=100, end=rate)
    state = TrainState(step=0, seed=5, model=model, optimizer=AdamW(parameters, AdamSettings(), schedule))
    watch = WeightWatch(parameters)
    for step in range(count):
        if step == count - 1:
            watch.begin()
        train_step(state, [make_batch(4, step)], SETTINGS)
        watch.end()
    measures = watch.read()
    assert measures is not None
    assert watch.read() is None, "read once"
    return measures, watch


def test_a_sound_step_moves_the_weights_a_little() -> None:
    measures, watch = take_steps(1e-3)
    assert measures.changed > 0.8, "what nothing reads of the last language layer stays"
    assert 1e-3 < measures.update < 0.05
    assert list(judge_weights(measures, watch.by_chance)) == []


@pytest.mark.parametrize(("rate", "name"), [(1e-9, "weights.still"), (0.3, "weights.update-size")])
def test_rates_that_do_nothing_or_too_much_are_told(rate: float, name: str) -> None:
    measures, watch = take_steps(rate, count=4 if rate > 0.1 else 12)
    (finding,) = judge_weights(measures, watch.by_chance)
    assert finding.name == name
    assert "--policy.optimizer_lr" in finding.remedy


def test_bfloat16_weights_rounded_by_chance_may_stay_mostly() -> None:
    parameters = {"expert.a": nn.Parameter(torch.ones(10, dtype=torch.bfloat16))}
    assert WeightWatch(parameters).by_chance
    few = WeightMeasures(changed=0.04, update=1e-4, still=())
    assert list(judge_weights(few, True)) == []
    assert [finding.name for finding in judge_weights(few, False)] == ["weights.still"]


def test_a_part_that_stays_is_named() -> None:
    parameters = {
        "expert.layers.0.q.weight": nn.Parameter(torch.ones(20, 20)),
        "vision.blocks.0.q.weight": nn.Parameter(torch.ones(20)),
        "embedding.weight": nn.Parameter(torch.ones(20, 4)),
    }
    watch = WeightWatch(parameters)
    watch.begin()
    with torch.no_grad():
        parameters["expert.layers.0.q.weight"] += 1e-3
    watch.end()
    measures = watch.read()
    assert measures is not None
    assert measures.still == ("vision tower",), "rows of words may stay"
    (finding,) = judge_weights(measures, False)
    assert finding.name == "weights.part-still"
    assert "vision tower" in finding.text


def test_the_sample_is_small_whatever_the_network() -> None:
    parameters = {f"expert.{i}": nn.Parameter(torch.ones(300, 300)) for i in range(500)}
    watch = WeightWatch(parameters)
    watch.begin()
    assert watch._before is not None
    assert watch._before.numel() <= 48 * 256


def test_adapters_are_compared_with_what_they_sit_on() -> None:
    model = make_model()
    names = [name for name in model.tower_maps if name.startswith("expert.")][:4]
    add_lora(model, dict.fromkeys(names, LoraSpec(rank=2, alpha=4)), torch.Generator().manual_seed(0))
    watch = AdapterWatch(model)
    assert watch.read() == 0, "B begins at zero"
    with torch.no_grad():
        for module in lora_modules(model).values():
            module.lora_b += 0.01 * torch.randn(module.lora_b.shape)
    ratio = watch.read()
    changes = [2 * (module.lora_b @ module.lora_a).detach() for module in lora_modules(model).values()]
    weights = [module.weight.detach() for module in lora_modules(model).values()]
    expected = sum(float(c.square().sum()) for c in changes) / sum(float(w.square().sum()) for w in weights)
    assert ratio == pytest.approx(expected**0.5, rel=1e-4)
    first = next(iter(lora_modules(model).values()))
    assert float(added_square(first)) == pytest.approx(float(changes[0].square().sum()), rel=1e-4)


def test_adapters_that_grow_or_are_young_are_told_nothing() -> None:
    assert list(judge_adapter(1e-5, 99, enough=100)) == []
    assert list(judge_adapter(0.01, 500, enough=100)) == []


def test_small_adapters_are_told_when_they_had_time() -> None:
    (finding,) = judge_adapter(1e-5, 100, enough=100)
    assert finding.name == "adapter.small"
    assert "1.0e-05" in finding.text


def test_a_network_without_adapters_has_no_ratio() -> None:
    assert AdapterWatch(make_model()).read() is None
