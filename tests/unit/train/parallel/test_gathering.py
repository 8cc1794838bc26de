"""What FSDP gathers in which precision: nothing that computes exactly is rounded, and nothing is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import CONFIG, make_batch, make_model
from torch import nn

from pi05.model.config import ModelConfig, tiny
from pi05.model.lora import LoraSpec, add_lora
from pi05.model.pi05 import FLOAT32_MAPS, Pi05
from pi05.train.config import TrainConfig
from pi05.train.lora import adapt
from pi05.train.method import Part
from pi05.train.parallel.gathering import gathered_bytes, units_of
from pi05.train.parameters import freeze
from pi05.train.policy_config import PolicyConfig

BF16 = torch.bfloat16
DECISIONS = Path(__file__).parents[4] / "docs" / "decisions"


def network(part: Part = "full", computed: torch.dtype = BF16) -> Pi05:
    model = make_model()
    model.compute_dtype = computed
    freeze(model, part)
    return model


def rounded(model: Pi05) -> dict[str, torch.dtype]:
    return {name: unit.rounded_to for unit in units_of(model) for name in unit.names if unit.rounded_to is not None}


@pytest.mark.parametrize("computed", [BF16, torch.float32])
def test_every_parameter_is_in_one_unit(computed: torch.dtype) -> None:
    model = network(computed=computed)
    units = units_of(model)
    named = [name for unit in units for name in unit.names]
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())
    layers = [*model.vision.blocks, *model.language.layers, *model.expert.layers]
    assert [unit.module for unit in units] == [model, *layers, model.embedding], "the root, then what is freed in turn"
    for unit in units[1:]:
        assert set(unit.names) <= {name for name, value in model.named_parameters() if is_of(value, unit.module)}


def is_of(parameter: nn.Parameter, module: nn.Module) -> bool:
    return any(parameter is each for each in module.parameters())


def test_the_matrices_of_the_layers_are_rounded_and_nothing_that_computes_in_float32() -> None:
    model = network()
    found = rounded(model)
    assert set(found.values()) == {BF16}
    assert found.keys() == {f"{name}.weight" for name in model.tower_maps if ".blocks." in name or ".layers." in name}
    exact = {name for name, value in model.named_parameters() if name not in found and value.ndim > 1}
    outside = {"vision.position_embedding", "embedding.weight", "vision.head.weight", "expert.norm.modulation.weight"}
    assert exact == outside | {f"{name}.weight" for name in FLOAT32_MAPS}


def test_rounded_before_or_after_gives_the_same_bits() -> None:
    """What FSDP does to the gathered copies, done to the weights of one process."""
    model, narrow = network(), network()
    for name, dtype in rounded(narrow).items():
        value = narrow.get_parameter(name)
        value.data = value.data.to(dtype)
    assert torch.equal(loss_of(narrow), loss_of(model))
    for name, value in model.named_parameters():
        other = narrow.get_parameter(name).grad
        assert (value.grad is None) == (other is None)
        assert value.grad is None or torch.equal(value.grad, other.float()), name  # type: ignore[union-attr]


def test_the_embedding_would_not_bear_it() -> None:
    """It is multiplied by the root of its width before it is rounded: no power of two at full size."""
    model = Pi05(replace(CONFIG, language_width=ModelConfig().language_width), BF16)
    model.initialize(torch.Generator().manual_seed(0))
    exact = model.embed_prefix(make_batch(1))[0]
    model.embedding.weight.data = model.embedding.weight.data.to(BF16)
    assert not torch.equal(model.embed_prefix(make_batch(1))[0], exact)


def loss_of(model: Pi05) -> torch.Tensor:
    loss = model.loss(make_batch(3), generator=torch.Generator().manual_seed(4)).mean()
    loss.backward()
    return loss.detach()


def test_in_float32_everything_comes_as_it_is_held() -> None:
    model = network(computed=torch.float32)
    assert not rounded(model)
    layers = sum(unit.size for unit in units_of(model) if unit.module not in (model, model.embedding))
    assert layers == sum(
        value.nbytes for name, value in model.named_parameters() if ".layers." in name or ".blocks." in name
    )


def test_maps_are_half_of_what_they_were() -> None:
    model = network()
    parameters = dict(model.named_parameters())
    for unit in units_of(model):
        held = sum(parameters[name].nbytes for name in unit.names)
        assert unit.size == (held // 2 if unit.rounded_to else held)
    maps = sum(parameters[name].nbytes for name in rounded(model))
    everything, embedding = sum(value.nbytes for value in parameters.values()), model.embedding.weight.nbytes
    assert gathered_bytes(units_of(model)) == 2 * everything - maps - embedding


@pytest.mark.parametrize(
    ("part", "again"),
    [("full", "vision language expert root"), ("frozen-vision", "language expert root"), ("expert", "expert root")],
)
def test_what_no_gradient_passes_is_gathered_once(part: Part, again: str) -> None:
    model = network(part)
    towers = dict.fromkeys(model.vision.blocks, "vision") | dict.fromkeys(model.language.layers, "language")
    towers |= dict.fromkeys(model.expert.layers, "expert") | {model: "root", model.embedding: "embedding"}
    found = {towers[unit.module] for unit in units_of(model) if unit.in_backward}
    assert found == set(again.split())
    outputs: dict[str, bool] = {}
    for layer, tower in towers.items():
        layer.register_forward_hook(lambda _, __, output, tower=tower: outputs.update({tower: needs_gradient(output)}))
    loss_of(model)
    assert {tower for tower, needed in outputs.items() if needed} - {"embedding"} == found - {"root"}


@pytest.mark.parametrize(
    ("row", "part"),
    [("everything trained", "full"), ("frozen vision", "frozen-vision"), ("the expert alone", "expert")],
)
def test_the_decision_tells_what_is_gathered_at_full_size(row: str, part: Part) -> None:
    with torch.device("meta"):
        model = Pi05(ModelConfig(), BF16)
    summed = sum(value.nbytes for value in freeze(model, part).values())
    units = units_of(model)
    gathers = len(units) + sum(unit.in_backward for unit in units)
    sums = sum(any(model.get_parameter(name).requires_grad for name in unit.names) for unit in units)
    told = f"| {row} | {gathers} | {sums} | {gathered_bytes(units) / 1e9:.1f} | {summed / 1e9:.1f} |"
    assert told in (DECISIONS / "0006-many-gpus.md").read_text()


def needs_gradient(output: torch.Tensor | tuple[Any, ...] | None) -> bool:
    return (
        any(map(needs_gradient, output)) if isinstance(output, tuple) else output is not None and output.requires_grad
    )


def test_layers_with_adapters_come_as_they_are_held() -> None:
    """A bfloat16 base already; and the adapter's path is chosen by the precision of its parts."""
    config = TrainConfig(policy=PolicyConfig(use_peft=True))
    with torch.device("meta"):
        model = Pi05(tiny(), BF16)
    adapt(model, config)
    assert not rounded(model)
    parameters = dict(model.named_parameters())
    assert all(unit.size == sum(parameters[name].nbytes for name in unit.names) for unit in units_of(model))


def test_a_layer_that_lora_trains_in_full_is_rounded() -> None:
    model = network()
    names = [name for name in model.tower_maps if name.startswith("expert.layers")]
    add_lora(model, {name: LoraSpec(rank=2, alpha=2.0) for name in names})
    found = rounded(model)
    assert found
    assert not any(name.startswith("expert") for name in found)
    assert any(name.startswith("vision.blocks.0") for name in found)
