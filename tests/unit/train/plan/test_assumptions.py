"""Which kernels a plan says that it counts on, and what it says of those that a run falls back to."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from pi05.model.config import tiny
from pi05.model.pi05 import Pi05
from pi05.train.config import TrainConfig
from pi05.train.device.kernels import PACKED_NAME
from pi05.train.plan.assumptions import PADDED, attention_line, update_line
from pi05.train.plan.counted_on import CountedOn
from pi05.train.plan.gpus import GPUS
from pi05.train.plan.methods import make_plan
from pi05.train.plan.report import overview, plain
from pi05.train.plan.step_on_shapes import Shapes, measure_step

SIZES = replace(tiny(), depth=2, vision_depth=1)
SHAPES = Shapes(batch=8, cameras=2, prompt_tokens=16)
CONFIG = TrainConfig(batch_size=8)


def test_every_gpu_says_which_attention_it_counts_on() -> None:
    plans = {plan.gpu.name: plan for plan in overview(CONFIG, SIZES, SHAPES)}
    kernels = {name: plain(plan, None)["attention"][PADDED] for name, plan in plans.items()}
    assert kernels == dict.fromkeys(GPUS, PACKED_NAME)
    words = f"vision flash, language and expert flash, language and expert with padded prompts {PACKED_NAME}"
    line = attention_line(plans["rtx4090"])
    assert f"{words} counted on; " in line
    assert "switches off what is wrong" in line
    assert re.search(
        r"keys are masked \(memory-efficient\): no more memory, and a step that takes \d+ ms longer$", line
    )
    assert "keys are masked (cuDNN): no more memory, and a step that takes 0 ms longer" in attention_line(plans["h200"])


def test_masks_are_counted_on_where_pytorch_cannot_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    plans = {name: make_plan(CONFIG, SIZES, SHAPES, GPUS[name]) for name in ("rtx4090", "h200")}
    kernels = {name: plain(plan, None)["attention"][PADDED] for name, plan in plans.items()}
    assert kernels == {"rtx4090": "memory-efficient", "h200": "cuDNN"}
    assert "counted on, since PyTorch 2." in attention_line(plans["rtx4090"])


def test_a_plan_says_which_update_it_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, optimizer_state="8bit")
    plan = make_plan(config, SIZES, SHAPES, GPUS["rtx4090"])
    assert plain(plan, None)["update"] == "kernel"
    assert update_line(make_plan(CONFIG, SIZES, SHAPES, GPUS["rtx4090"])) is None
    line = update_line(plan) or ""
    assert line.startswith("update: kernels of its own counted on (Triton): ")
    by = plan.memory.step.moved_by
    assert f"{by['kernel'] / 1e9:.3g} GB moved in a step, nothing for itself" in line
    assert (
        f"compiled ({by['compiled'] / 1e9:.3g} GB) or runs operation by operation ({by['plain'] / 1e9:.3g} GB" in line
    )
    assert f"a step {(by['plain'] - by['kernel']) / 1008e9:.2g} s longer" in line
    away = make_plan(replace(config, optimizer_offload=True), SIZES, SHAPES, GPUS["rtx4090"])
    assert away.memory.step.read_back == 8 * max(value.numel() for value in Pi05(SIZES).parameters())
    assert " GB moved in a step, 0.0 GiB for moments from host memory, a portion at a time; before" in (
        update_line(away) or ""
    )
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "triton" else object())
    without = make_plan(config, SIZES, SHAPES, GPUS["rtx4090"])
    line = update_line(without) or ""
    assert line.startswith("update: operation by operation counted on, since the package triton is missing: ")
    assert without.speed is not None
    assert plan.speed is not None
    longer = (by["plain"] - by["kernel"]) / 1008e9
    assert without.speed.step_seconds - plan.speed.step_seconds == pytest.approx(longer)


def test_packed_keys_need_no_more_memory_than_masks_where_activations_decide() -> None:
    """What `attention_line` promises, in the proportions of the full network: eight query heads share keys."""
    sizes = replace(SIZES, num_heads=8, num_kv_heads=1)
    for degree in ("none", "selective", "full"):
        config = replace(CONFIG, activation_checkpointing=degree)
        packed, masked = (
            sum(measure_step(config, sizes, replace(SHAPES, batch=16), kernels=each).at_peak.values())
            for each in (CountedOn(packed=True, update=None), CountedOn(packed=False, update=None))
        )
        assert masked <= packed
