"""The formulas of work against PyTorch's own count of the real network, forward and backward."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from small_network import CONFIG, make_batch, make_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pi05.checkpoint.peft.adapter import resolve_targets
from pi05.model import config as model_config
from pi05.model.lora import LoraSpec, add_lora
from pi05.model.pi05 import Pi05
from pi05.train.activations import apply_from_outside
from pi05.train.lora_config import PeftConfig
from pi05.train.method import Part
from pi05.train.parameters import freeze, group_of
from pi05.train.plan.flops import flops_per_sample, known_gpu

BATCH, PROMPT = 3, 16
RANK = 2


def counted(model: Pi05, flow_samples: int = 1) -> float:
    """Return what PyTorch counts per sample; attention as plain products, which its counter knows."""
    batch = make_batch(BATCH)
    batch = replace(batch, tokens=torch.zeros(BATCH, PROMPT, dtype=torch.long))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = model.loss(batch, flow_samples=flow_samples, generator=torch.Generator().manual_seed(0))
        loss.sum().backward()
    return counter.get_total_flops() / BATCH


def expected(part: Part, **more: float) -> float:
    return flops_per_sample(CONFIG, cameras=2, prompt_tokens=PROMPT, part=part, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("flow_samples", [1, 3])
@pytest.mark.parametrize("part", get_args(Part))
def test_work_is_what_pytorch_counts(part: Part, flow_samples: int) -> None:
    model = make_model()
    freeze(model, part)
    assert counted(model, flow_samples) == expected(part, flow_samples=flow_samples)


@pytest.mark.parametrize("part", ["full", "expert"])
def test_work_of_adapters(part: Part) -> None:
    model = make_model()
    targets = resolve_targets(model, PeftConfig(target_modules="all").targets)
    if part == "expert":
        targets = {name: other for name, other in targets.items() if group_of(name + ".weight") == "action expert"}
    model.requires_grad_(False)
    add_lora(model, dict.fromkeys(targets, LoraSpec(rank=RANK, alpha=RANK)))
    for name in ("action_in", "action_out", "time_in", "time_out"):
        model.get_submodule(name).requires_grad_(True)
    assert counted(model) == pytest.approx(expected(part, lora_rank=RANK), rel=0.02)


@pytest.mark.parametrize("depth", [1, 3])
def test_other_depths(depth: int) -> None:
    sizes = replace(CONFIG, depth=depth, vision_depth=depth)
    model = Pi05(sizes)
    model.initialize(torch.Generator().manual_seed(0))
    freeze(model, "full")
    assert counted(model) == flops_per_sample(sizes, cameras=2, prompt_tokens=PROMPT, part="full")


def test_recomputation_is_counted_only_where_it_is_asked_for() -> None:
    model = make_model()
    freeze(model, "full")
    apply_from_outside(model, compile_layers=False, recompute_activations=1.0)
    useful, all_work = expected("full"), expected("full", checkpointing=1.0)
    assert useful < counted(model) <= all_work, "recomputation stops before the last product of a layer"
    assert all_work < 4 / 3 * useful + 1
    assert expected("expert", checkpointing=0.5) > expected("expert")


def test_full_size_agrees_with_the_published_arithmetic() -> None:
    """`peers.md`: 8.1 TFLOP with 2 cameras, 48 tokens, horizon 10 before the last layer's unread half is left out."""
    sizes = replace(model_config.pi05(), horizon=10)
    work = flops_per_sample(sizes, cameras=2, prompt_tokens=48, part="full")
    assert 7.4e12 < work < 8.4e12
    more = flops_per_sample(sizes, cameras=2, prompt_tokens=48, part="full", flow_samples=2)
    assert 1.002 < more / work < 1.02, "another flow sample costs one or two per cent"
    frozen = flops_per_sample(sizes, cameras=2, prompt_tokens=48, part="expert")
    assert frozen < 0.36 * work


def test_gpus_are_known_by_the_name_that_the_driver_gives() -> None:
    found = known_gpu("NVIDIA H200")
    assert found is not None
    assert found.name == "h200"
    assert known_gpu("NVIDIA H100 PCIe") is None
