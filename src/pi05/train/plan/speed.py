"""How fast a run would be on a GPU that nobody has measured: arithmetic over its peak, and the optimizer's traffic.

An estimate, not a measurement; the shares and rates below say where it is from. The exchange between the GPUs of one
machine runs beside the arithmetic and counts where it takes longer. Leaves out loading of data, which runs beside the
steps, and the network between machines.
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
"""Bytes per second between host and GPU over PCIe 4 x16, in one direction at a time: the copies of a step lie in one
stream with its kernels. Assumption: 80 % of its 31.5 GB/s."""
PCIE_EXCHANGE, NVLINK_EXCHANGE = 15e9, 150e9
"""Bytes per second that a GPU exchanges with the others of its machine, over PCIe by way of the host, or NVLink.
Assumptions: 12 to 20 GB/s are usual between RTX 4090; of NVLink's 600 GB/s and more a quarter of the slowest."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a step takes, estimated."""

    step_seconds: float
    samples_per_step: int
    exchange_seconds: float = 0.0
    """What the exchange between the GPUs takes by itself; hidden behind the arithmetic as far as that lasts."""
    exchanged: int = 0
    """Bytes that each GPU exchanges in a step."""

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
    both_ways = 2 * memory.step.to_host / HOST_LINK
    exchanged = exchanged_bytes(config, memory, world)
    exchange = exchanged / (NVLINK_EXCHANGE if gpu.nvlink else PCIE_EXCHANGE)
    return Speed(
        step_seconds=max(passes, exchange) + update + both_ways,
        samples_per_step=config.samples_per_step(world.gpus),
        exchange_seconds=exchange,
        exchanged=exchanged,
    )


def exchanged_bytes(config: TrainConfig, memory: MemoryPrediction, world: World) -> int:
    """Return what each GPU sends in a step, inside its machine and over it.

    FSDP gathers weights for the forward pass and again for the backward pass, of every forward pass, as `gathering.py`
    decides, and adds up the gradients; DDP sends each gradient twice, once to be added up and once as a sum.
    """
    if world.gpus == 1:
        return 0
    passes, trained = config.gradient_accumulation_steps, memory.step.gradient_bytes
    if memory.kind == "ddp":
        return round(2 * trained * (world.gpus - 1) / world.gpus)
    over = divided_by(memory.kind, world)
    return round((memory.step.gathered_bytes + trained) * passes * (over - 1) / over)
