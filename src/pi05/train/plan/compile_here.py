"""Before a run starts: are its layers compiled on this machine? On CUDA as predicted for it; on a CPU only when asked.

Leaves out the choice (`compilation.py`), the trial (`compile_trial.py`) and the compiling (`activations.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from pi05.model.config import ModelConfig
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData
from pi05.train.device.varlen import flash_varlen, why_no_varlen
from pi05.train.network import compute_dtype
from pi05.train.parallel.ranks import Ranks
from pi05.train.plan.compilation import FLAG, choose_compilation
from pi05.train.plan.compile_trial import why_not_compiling
from pi05.train.plan.report import describe_gpu
from pi05.train.plan.shapes import longest_prompt, shapes_of
from pi05.triton_here import why_no_triton
from pi05.waits import waiting

NOT_SHOWN = (
    f"--deterministic with {FLAG}=true: compiled kernels may differ between starts, so it has not been shown that a "
    "resumed run is the uninterrupted one bit for bit"
)


def compiles_here(
    config: TrainConfig,
    sizes: ModelConfig,
    data: TrainingData,
    ranks: Ranks,
    steps_done: int,
    tell: Callable[[str], None],
) -> bool:
    """Return whether the layers are compiled: as the user says, else as predicted for the rest of the run, and told.

    The same in all processes: what nobody asked for is off where one of them cannot, or where its trial fails.
    """
    asked, device = config.policy.compile_model, ranks.device
    if asked is not None or device.type != "cuda":
        if asked and device.type == "cuda" and config.deterministic:
            tell(f"notice: {NOT_SHOWN}")
        return bool(asked)
    gpu = describe_gpu(torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory)
    processor = data.processor
    prompt = longest_prompt(processor.tokenizer, data.dataset, processor.prompt_format)
    shapes = shapes_of(config, ranks.world_size, len(processor.slots.keys), prompt)
    left = config.steps - steps_done
    choice = choose_compilation(config, sizes, shapes, gpu, left, why_no_triton(), ranks.world)
    chosen = choice is not None and choice.chosen
    everywhere, failed = not ranks.any(not chosen), None
    if everywhere:
        with waiting("trying compiled code", tell):
            packs = why_no_varlen(device, compute_dtype(config.precision), sizes.head_dim) is None
            varlen = flash_varlen() if packs else None
            failed = why_not_compiling(device, varlen=varlen, head_dim=sizes.head_dim)
        everywhere = not ranks.any(failed is not None)
    if failed is not None:
        tell(f"{FLAG} is false: a trial of compiled code failed here: {failed}")
    elif choice is not None:
        tell(choice.told if chosen == everywhere else f"{FLAG} is false: another process of the run goes without")
    return everywhere
