"""Operations of a step counted on shapes, and what they take on a GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pi05.commands.train import read_training_settings
from pi05.model.config import pi05, tiny
from pi05.train.config import TrainConfig
from pi05.train.plan.counted_on import CountedOn
from pi05.train.plan.gpus import GPUS
from pi05.train.plan.memory import predict
from pi05.train.plan.roofline import FUSED, FUSED_SHARE, LAUNCH, Operations, count_operations
from pi05.train.plan.step_on_shapes import Shapes

SHAPES = Shapes(batch=8, cameras=2, prompt_tokens=64)
RESULTS = Path(__file__).resolve().parents[4] / "benchmarks" / "results"


def read(*flags: str) -> TrainConfig:
    return read_training_settings([*flags, "--policy.path=base"])[0].config


def test_an_operation_takes_the_slower_of_arithmetic_and_traffic_and_no_less_than_a_launch() -> None:
    gpu = replace(GPUS["h200"], bf16_tflops=100.0, bandwidth_gbs=1000.0)
    large, wide, small = ("products", 8e12, 1.0), ("other", 0.0, 8.5e9), ("other", 0.0, 1.0)
    parts = Operations(done=(large, wide, small), passes=3, update_bytes=0, head_dim=256).parts(gpu)
    assert parts["products"].seconds == pytest.approx(3 * 0.1), "80 % of the peak"
    assert parts["other"].seconds == pytest.approx(3 * (0.01 + LAUNCH)), "85 % of the bandwidth"
    assert (parts["products"].kernels, parts["other"].kernels) == (3, 6)


def test_compilation_saves_of_the_small_work_alone() -> None:
    counted = count_operations(TrainConfig(policy=replace(TrainConfig().policy)), tiny(), replace(SHAPES, batch=2))
    gpu = GPUS["rtx4090"]
    loose = sum(counted.parts(gpu)[kind].seconds for kind in FUSED)
    assert loose > 0
    saved = counted.seconds(gpu) - counted.seconds(gpu, compiled=True)
    assert saved == pytest.approx((1 - FUSED_SHARE) * loose)


def test_more_is_counted_where_layers_are_recomputed() -> None:
    none, full = (count_operations(read(f"--activation_checkpointing={d}"), tiny(), SHAPES) for d in ("none", "full"))
    gpu = GPUS["h100"]
    assert full.parts(gpu)["products"].flops > 1.2 * none.parts(gpu)["products"].flops


def test_padded_prompts_cost_flash_attention_or_the_kernel_for_masks() -> None:
    """The same arithmetic in any case; what the run counts on decides at which rate."""
    sizes = replace(tiny(), depth=2)
    config = read("--activation_checkpointing=none")
    free = count_operations(config, sizes, SHAPES, padded=False)
    packed = count_operations(config, sizes, SHAPES)
    masked = count_operations(config, sizes, SHAPES, kernels=CountedOn(packed=False, update=None))
    for gpu, slower in ((GPUS["rtx4090"], True), (replace(GPUS["h200"], capability=(9, 0)), False)):
        parts = {name: each.parts(gpu) for name, each in (("free", free), ("packed", packed), ("masked", masked))}
        for kind in ("packed attention", "masked attention"):
            assert parts["free"][kind].kernels == 0
        assert parts["masked"]["packed attention"].kernels == 0 == parts["packed"]["masked attention"].kernels
        flops = parts["packed"]["packed attention"].flops
        assert flops == pytest.approx(parts["masked"]["masked attention"].flops)
        assert flops == pytest.approx(parts["free"]["attention"].flops - parts["packed"]["attention"].flops)
        extra = flops * (1 / 0.12 - 1 / 0.35) / (gpu.bf16_tflops * 1e12) if slower else 0.0
        assert packed.seconds_for_masks(gpu) == pytest.approx(extra)


def test_attention_in_float32_is_no_faster_than_products_in_float32() -> None:
    sizes, gpu = replace(tiny(), depth=2), GPUS["h200"]
    bfloat16, float32 = (
        count_operations(read(f"--precision={precision}"), sizes, SHAPES).parts(gpu)
        for precision in ("mixed", "float32")
    )
    kinds = ("attention", "packed attention", "masked attention")
    flops = sum(bfloat16[kind].flops for kind in kinds)
    assert flops > 0 == sum(float32[kind].kernels for kind in kinds)
    slow = float32["float32 attention"]
    assert slow.flops == pytest.approx(flops)
    assert slow.seconds >= slow.flops / (gpu.bf16_tflops * 1e12 / 16)
    assert bfloat16["float32 attention"].kernels == 0


def test_the_update_counts_by_the_way_it_runs() -> None:
    config = read("--optimizer_state=8bit", "--activation_checkpointing=none")
    gpu, small = GPUS["rtx4090"], replace(SHAPES, batch=1)
    kernel, plain = (
        count_operations(config, tiny(), small, kernels=CountedOn(packed=True, update=way))
        for way in ("kernel", "plain")
    )
    seconds = [each.parts(gpu)["clipping and update"].seconds for each in (kernel, plain)]
    assert seconds[1] > 25 * seconds[0]
    assert count_operations(config, tiny(), small).update_bytes == kernel.update_bytes, "Triton comes with PyTorch"


def test_the_step_of_lora_is_predicted_faster_than_a_full_one_on_every_gpu_that_fits_both() -> None:
    """At full size, both with everything recomputed: full fine-tuning in mixed precision needs 80 GB at batch 8."""
    sizes = replace(pi05(), horizon=10)
    runs = {method: read(f"--method={method}", "--activation_checkpointing=full") for method in ("full", "lora")}
    needed = max(predict(config, sizes, SHAPES).needed for config in runs.values())
    counted = {method: count_operations(config, sizes, SHAPES) for method, config in runs.items()}
    both = [gpu for gpu in GPUS.values() if gpu.memory >= needed]
    assert {"a100-80", "h100", "h200", "b200"} <= {gpu.name for gpu in both}
    for gpu in both:
        for compiled in (False, True):
            lora, full = (counted[method].seconds(gpu, compiled=compiled) for method in ("lora", "full"))
            assert lora < full, f"{gpu.name}, compiled: {compiled}"
    stored = json.loads((max(RESULTS.glob("roofline_h200_????-??-??.json"))).read_text())["cases"]
    of_32 = {case["method"]: case for case in stored if case["batch"] == 32 and case["checkpointing"] == "full"}
    assert of_32["lora"]["samples_per_second_eager"] > of_32["full"]["samples_per_second_eager"]
