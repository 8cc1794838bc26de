"""Compilation, recomputation and offload from outside: the same gradients, less kept, few compilations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_network import CONFIG, SETTINGS, make_batch, make_model, make_state
from torch import Tensor

from pi05.errors import ConfigError
from pi05.model.pi05 import Pi05
from pi05.train.activations import (
    apply_from_outside,
    chosen_layers,
    keep,
    to_device,
    to_host,
)
from pi05.train.config import TrainConfig
from pi05.train.parameters import freeze
from pi05.train.plan.live_memory import LiveStorage
from pi05.train.policy_config import PolicyConfig
from pi05.train.step import train_step
from pi05.types import Batch


def step_gradients(method: str = "full", **applied: Any) -> dict[str, Tensor]:
    model = make_model()
    apply_from_outside(model, **{"compile_layers": False, "recompute_activations": 0.0, **applied})
    train_step(make_state(model, freeze(model, method)), [make_batch(3)], SETTINGS)
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(
    ("method", "degree", "offload"),
    [
        ("full", "selective", False),
        ("full", 0.5, False),
        ("full", 1.0, True),
        ("full", 0.0, True),
        ("expert", "selective", False),
    ],
)
def test_gradients_stay_the_same_to_the_bit(method: str, degree: Any, offload: bool) -> None:
    wanted = step_gradients(method)
    found = step_gradients(method, recompute_activations=degree, offload_activations=offload)
    assert set(wanted) == set(found)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_what_layers_keep_goes_to_host_memory_and_no_more() -> None:
    """Hooks around all of it see only what is kept outside of the layers; the innermost hooks get the rest."""
    counts = []
    for offload in (False, True):
        model, seen = make_model(), []
        apply_from_outside(model, compile_layers=False, recompute_activations=0.0, offload_activations=offload)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda kept, seen=seen: seen.append(kept.shape) or kept, lambda kept: kept
        ):
            model.loss(make_batch(3))
        counts.append(len(seen))
    assert counts[1] < 0.3 * counts[0]
    assert counts[1] > 0


def test_each_degree_keeps_less_than_the_one_before() -> None:
    def kept(degree: Any) -> int:
        model = make_model()
        apply_from_outside(model, compile_layers=False, recompute_activations=degree)
        with LiveStorage("cpu", block=1) as storages:
            loss = model.loss(make_batch(8), generator=torch.Generator().manual_seed(0))
        assert loss.requires_grad
        return storages.total

    nothing, half, cheap, everything = (kept(degree) for degree in (0.0, 0.5, "selective", 1.0))
    assert everything < cheap < nothing
    assert everything < half < nothing
    assert cheap < 0.7 * nothing


def test_large_products_are_kept_and_others_are_not() -> None:
    mm, sdpa = torch.ops.aten.mm.default, torch.ops.aten._scaled_dot_product_flash_attention.default
    x = torch.empty(5, 64)

    def kept(inputs: int, outputs: int) -> bool:
        return keep(None, mm, x, torch.empty(inputs, outputs)).name == "MUST_SAVE"

    assert kept(2048, 16384), "the MLP's gate"
    assert kept(2048, 2048), "queries"
    assert not kept(16384, 2048), "the MLP's way back: recomputation stops before it"
    assert not kept(16, 2048), "a low-rank adapter: cheap to repeat"
    assert keep(None, sdpa, x).name == "MUST_SAVE"
    assert keep(None, torch.ops.aten.gelu.default, x).name == "PREFER_RECOMPUTE"


def test_nothing_large_is_computed_twice_with_selective() -> None:
    """Counted: only narrowing products inside a layer come twice, 2 % of the work at full size, more at these."""
    from torch.utils.flop_counter import FlopCounterMode

    def work(degree: Any) -> int:
        model = make_model()
        apply_from_outside(model, compile_layers=False, recompute_activations=degree)
        with FlopCounterMode(display=False) as counter:
            model.loss(make_batch(2), generator=torch.Generator().manual_seed(0)).sum().backward()
        return int(counter.get_total_flops())

    once, cheap, twice = work(0.0), work("selective"), work(1.0)
    assert once <= cheap < once + 0.25 * (twice - once)


def test_a_share_of_the_layers_is_spread_evenly() -> None:
    assert chosen_layers(6, 0.5) == [False, True, False, True, False, True]
    assert sum(chosen_layers(27, 0.25)) == 6
    assert not any(chosen_layers(18, 0.0))
    assert all(chosen_layers(18, 1.0))
    assert all(chosen_layers(18, "selective"))


def test_the_degree_follows_from_both_flags() -> None:
    lerobot = PolicyConfig(gradient_checkpointing=True)
    assert TrainConfig().recomputed == 0.0
    assert TrainConfig(policy=lerobot).recomputed == 1.0
    assert TrainConfig(policy=lerobot, activation_checkpointing="none").recomputed == 0.0
    assert TrainConfig(activation_checkpointing="selective").recomputed == "selective"
    assert TrainConfig(activation_checkpointing="0.25").recomputed == 0.25
    for wrong in ("half", "1.5", "-0.5", ""):
        with pytest.raises(ConfigError, match="activation_checkpointing"):
            TrainConfig(activation_checkpointing=wrong)


def test_tensors_come_back_from_host_memory_and_parameters_stay() -> None:
    value, weight = torch.randn(4, 3).t(), torch.nn.Parameter(torch.ones(2))
    packed = to_host(value)
    assert packed[1].data_ptr() != value.data_ptr()
    assert torch.equal(to_device(packed), value)
    assert to_device(packed).stride() == value.stride()
    assert to_host(weight)[1] is weight


def varied(lengths: Sequence[int]) -> Batch:
    """Return a batch of prompts with these lengths, padded to the next multiple of 8."""
    width = -(-max(lengths) // 8) * 8
    mask = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    tokens = torch.randint(0, CONFIG.vocab_size, (len(lengths), width))
    given = None if bool(mask.all()) else mask
    return replace(make_batch(len(lengths)), tokens=tokens, token_mask=given)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
@pytest.mark.parametrize("degree", [0.0, "selective"])
def test_prompts_of_any_length_share_a_few_compilations(degree: Any) -> None:
    """Two lengths make the code general; afterwards no length, of whatever bucket, compiles anything."""
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    deep = replace(CONFIG, depth=4, vision_depth=3, max_prompt_tokens=128)
    model = Pi05(deep)
    model.initialize(torch.Generator().manual_seed(0))
    apply_from_outside(model, compile_layers=True, recompute_activations=degree, backend="eager")
    state = make_state(model, freeze(model, "full"))

    def compiled_by(batch: Batch, flow_samples: int = 1) -> int:
        before = counters["stats"]["unique_graphs"]
        train_step(state, [batch], replace(SETTINGS, flow_samples=flow_samples))
        return int(counters["stats"]["unique_graphs"] - before)

    assert compiled_by(varied([9, 20, 33])) == 4, (
        "vision, language, its last layer, expert: one each, not one per layer"
    )
    general = sum(compiled_by(varied([9, 20, length])) for length in (50, 70))
    assert general <= 6
    draw = random.Random(0)
    for _ in range(5):
        assert compiled_by(varied([draw.randint(9, 120) for _ in range(3)])) == 0
    unmasked = compiled_by(varied([16] * 3)) + compiled_by(varied([40] * 3))
    assert unmasked <= 6
    assert compiled_by(varied([104] * 3)) == 0
    fewer = compiled_by(varied([9, 30])) + compiled_by(varied([9, 30]), flow_samples=3)
    assert fewer <= 8
    assert compiled_by(varied([12, 90]), flow_samples=3) == 0
    assert not counters["graph_break"]
    assert max(torch._dynamo.config.recompile_limit, 64) == torch._dynamo.config.recompile_limit


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_gradients_do_not_depend_on_the_lengths_compiled_before() -> None:
    """A resumed run meets another length first; its code for a length is then that of the length alone, or general."""

    def gradients_after(*lengths: int) -> dict[str, Tensor]:
        torch._dynamo.reset()
        model = make_model()
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        apply_from_outside(model, compile_layers=True, recompute_activations=0.0)
        for length in lengths:
            model.load_state_dict(weights)
            torch.manual_seed(length)
            train_step(make_state(model, freeze(model, "full")), [varied([9, 20, length])], SETTINGS)
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    resumed = gradients_after(30)
    for name, value in gradients_after(9, 16, 30).items():
        assert torch.equal(resumed[name], value), name
