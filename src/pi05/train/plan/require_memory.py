"""Before the base is loaded onto a GPU: does the run fit what is free there? If not, it is refused, with a proposal.

Only on CUDA; a CPU's memory is the operating system's business. `--allow=memory` passes over it. Leaves out the
prediction (`memory.py`) and the proposals (`methods.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from pi05.errors import TrainingError
from pi05.model.config import ModelConfig
from pi05.train.config import ALLOW_MEMORY, TrainConfig
from pi05.train.data import TrainingData
from pi05.train.parallel.kind import World
from pi05.train.parallel.ranks import Ranks
from pi05.train.plan.gpus import GIB, Gpu, gib
from pi05.train.plan.memory import MOST_OF_HOST
from pi05.train.plan.methods import LEAST_FIRST, make_plan, settle_recomputation
from pi05.train.plan.report import describe_gpu, proposals_text
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
        shapes = shapes_of(settled, ranks.world_size, cameras, prompt)
        require_host_memory(make_plan(settled, sizes, shapes, gpu, ranks.world, free).host, available_memory())
        tell(check_memory(settled, sizes, cameras, prompt, gpu, free, ranks.world))
    return settled


def require_host_memory(needed: int, available: int | None) -> None:
    """Raise TrainingError where page-locked memory would take more of the machine than it can give up.

    The system cannot move such pages, so that it is other programs, or this one, that it ends. `available` is None
    where nothing tells.
    """
    if available is None or needed <= MOST_OF_HOST * available:
        return
    raise TrainingError(
        "the machine has too little memory for what is to be kept in it (--optimizer_offload, --activation_offload)",
        wanted=f"{gib(needed)} GiB that cannot be swapped out, at most {MOST_OF_HOST:.0%} of what is available",
        found=f"{gib(available)} GiB available",
        remedy="drop these flags and take --optimizer_state=8bit or a lighter method (pi05 plan), or a machine with "
        f"{gib(needed / MOST_OF_HOST)} GiB free; or --allow={ALLOW_MEMORY} to try all the same",
    )


def available_memory(table: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes that the system could give to programs now; None where it does not tell."""
    try:
        for line in table.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except OSError:
        return None
    return None


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
