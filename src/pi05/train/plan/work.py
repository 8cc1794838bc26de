"""The useful work of a run's steps, and what of the GPU's peak that is: the numbers behind TFLOP/s and MFU.

MFU is the share of the maker's dense bfloat16 peak that went into useful work: not into padding that was trimmed away,
nor into what has been computed twice to save memory. Leaves out the formulas (`flops.py`) and the clock
(`records/metrics.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pi05.model.config import ModelConfig
from pi05.train.config import TrainConfig
from pi05.train.method import Part
from pi05.train.plan.flops import flops_per_sample, known_gpu
from pi05.types import Batch


@dataclass(frozen=True, kw_only=True)
class WorkCount:
    """What the work of a batch follows from, besides its shape."""

    sizes: ModelConfig
    part: Part
    flow_samples: int = 1
    lora_rank: int = 0
    time_per_step: bool = False
    """Whether every action has a flow time of its own, as with `--rtc_max_delay`."""
    peak: float | None = None
    """Operations per second of the GPU in bfloat16; None where it is not known or not used."""

    def of(self, batches: Sequence[Batch]) -> float:
        """Return the work of these forward passes and their backward passes. Looks at shapes only."""
        return sum(len(batch.tokens) * self._of_sample(batch) for batch in batches)

    def _of_sample(self, batch: Batch) -> float:
        cameras, prompt = batch.images.shape[1], batch.tokens.shape[1]
        if batch.prefix is not None:
            cameras = (batch.prefix.shape[4] - prompt) // self.sizes.patches_per_image
        return flops_per_sample(
            self.sizes,
            cameras=cameras,
            prompt_tokens=prompt,
            part=self.part,
            flow_samples=self.flow_samples,
            lora_rank=self.lora_rank,
            cached_prefix=batch.prefix is not None,
            time_per_step=self.time_per_step,
        )


def count_work(config: TrainConfig, sizes: ModelConfig, device: torch.device) -> WorkCount:
    """Return how the work of a run is counted. Adapters count as if on attention and MLP of the towers they are in."""
    gpu = known_gpu(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return WorkCount(
        sizes=sizes,
        part=config.part,
        flow_samples=config.flow_samples,
        lora_rank=config.lora_rank,
        time_per_step=config.rtc_max_delay > 0,
        peak=None if gpu is None or config.precision == "float32" else gpu.bf16_tflops * 1e12,
    )
