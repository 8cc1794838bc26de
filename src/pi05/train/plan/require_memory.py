"""Before the base is loaded onto a GPU: does the run fit what is free there? If not, it is refused, with a proposal.

Only on CUDA; a CPU's memory is the operating system's business. `--allow=memory` passes over it. Leaves out the
prediction (`memory.py`) and the proposals (`methods.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from pi05.errors import TrainingError
from pi05.model.config import ModelConfig
from pi05.train.config import ALLOW_MEMORY, TrainConfig
from pi05.train.data import TrainingData
from pi05.train.parallel.kind import World
from pi05.train.parallel.ranks import Ranks
from pi05.train.plan.gpus import GIB, Gpu
from pi05.train.plan.methods import LEAST_FIRST, make_plan, settle_recomputation
from pi05.train.plan.report import describe_gpu, gib, proposals_text
from pi05.train.plan.shapes import longest_prompt, shapes_of


def require_memory(
    config: TrainConfig, sizes: ModelConfig, data: TrainingData, ranks: Ranks, tell: Callable[[str], None]
) -> TrainConfig:
    """Return the configuration with `--activation_checkpointing=auto` settled: the least that fits.

    Raises TrainingError, with what would fit, when the run needs more memory than the GPU has free.
    """
    device, settled = ranks.device, config
    if device.type != "cuda":
        return config
    free, total = torch.cuda.mem_get_info(device)
    gpu = describe_gpu(torch.cuda.get_device_name(device), total)
    processor = data.processor
    cameras = len(processor.slots.keys)
    prompt = longest_prompt(processor.tokenizer, data.dataset, processor.prompt_format)
    if config.activation_checkpointing == "auto":
        shapes = shapes_of(config, ranks.world_size, cameras, prompt)
        own = settle_recomputation(config, sizes, shapes, gpu, ranks.world, free).activation_checkpointing
        degree = LEAST_FIRST[int(ranks.maxima([LEAST_FIRST.index(own)])[0])]  # all processes compute alike
        settled = replace(config, activation_checkpointing=degree)
        tell(f"memory   --activation_checkpointing=auto is {degree} here")
    if ALLOW_MEMORY not in config.allow:
        tell(check_memory(settled, sizes, cameras, prompt, gpu, free, ranks.world))
    return settled


def check_memory(
    config: TrainConfig, sizes: ModelConfig, cameras: int, prompt_tokens: int, gpu: Gpu, free: int, world: World
) -> str:
    """Return a line about the memory that the run needs, or raise TrainingError when `free` bytes are too few."""
    shapes = shapes_of(config, world.gpus, cameras, prompt_tokens)
    plan = make_plan(config, sizes, shapes, gpu, world, free)
    if plan.fits:
        return f"memory   {gib(plan.required)} GiB predicted, {gib(free)} of {gpu.memory / GIB:.1f} GiB free"
    worth_saying = plan.memory.peak / 100
    parts = ", ".join(f"{name} {gib(size)}" for name, size in plan.memory.parts.items() if size >= worth_saying)
    raise TrainingError(
        f"the run does not fit the GPU ({gpu.title})",
        wanted=f"{gib(plan.required)} GiB, predicted for a batch of {shapes.batch}: {parts}",
        found=f"{gib(free)} GiB free of {gpu.memory / GIB:.1f}",
        remedy=f"{proposals_text(plan)}; or --allow={ALLOW_MEMORY} to try all the same",
    )
