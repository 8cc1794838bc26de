"""How fast a run would be on a GPU that nobody has measured: arithmetic over its peak, and the optimizer's traffic.

An estimate, not a measurement; the two shares below say where it is from. Leaves out loading of data, which runs beside
the steps, and the exchange between GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

from pi05.model.config import ModelConfig
from pi05.train.config import TrainConfig
from pi05.train.parallel.kind import World, divided_by
from pi05.train.plan.flops import flops_per_sample
from pi05.train.plan.gpus import Gpu
from pi05.train.plan.memory import MemoryPrediction
from pi05.train.plan.step_on_shapes import Shapes

UTILISATION = 0.33
"""Share of the peak arithmetic that is reached. Assumption: what openpi's JAX trainer reaches on an H200 (23.6 samples
per second of 13.9 TFLOP); this program has not been measured on a GPU."""
FLOAT32_SHARE = 0.5
"""Arithmetic in float32 (TF32 products) over that in bfloat16. Assumption, by the makers' peaks."""
HOST_LINK = 25e9
"""Bytes per second between host and GPU over PCIe 4 x16, each way. Assumption: 80 % of its 31.5 GB/s."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a step takes, estimated."""

    step_seconds: float
    samples_per_step: int

    @property
    def steps_per_hour(self) -> float:
        """Optimizer steps in an hour."""
        return 3600 / self.step_seconds

    @property
    def samples_per_second(self) -> float:
        """Samples in a second, over all GPUs."""
        return self.samples_per_step / self.step_seconds


def estimate_speed(
    config: TrainConfig, sizes: ModelConfig, shapes: Shapes, memory: MemoryPrediction, gpu: Gpu, world: World
) -> Speed | None:
    """Estimate the time of an optimizer step; None for a GPU whose arithmetic is not known."""
    if not gpu.bf16_tflops:
        return None
    work = flops_per_sample(
        sizes,
        cameras=shapes.cameras,
        prompt_tokens=shapes.prompt_tokens,
        part=config.part,
        lora_rank=config.lora_rank,
        flow_samples=config.flow_samples,
        checkpointing=0.0 if config.recomputed == "selective" else config.recomputed,
        cached_prefix=config.cache_prefix,
        time_per_step=config.rtc_max_delay > 0,
    )
    rate = UTILISATION * gpu.bf16_tflops * 1e12 * (FLOAT32_SHARE if config.precision == "float32" else 1)
    passes = shapes.batch * config.gradient_accumulation_steps * work / rate
    update = memory.step.moved / divided_by(memory.kind, world) / (gpu.bandwidth_gbs * 1e9)
    to_host = memory.step.to_host / HOST_LINK
    return Speed(step_seconds=passes + update + to_host, samples_per_step=config.samples_per_step(world.gpus))
