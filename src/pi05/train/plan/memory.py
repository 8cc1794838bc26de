"""Will a run fit? Predicted memory of one GPU by part, for one GPU or several, without needing any.

One GPU: the real step on shapes (`step_on_shapes.py`). Several: that step's parts divided by simple arithmetic, which
is marked as such. What no shape tells (CUDA's own memory, gaps between blocks) are the constants here, each with its
source or called an assumption. Leaves out speed, methods and proposals (`methods.py`).
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace

from pi05.model.config import ModelConfig
from pi05.train.config import TrainConfig
from pi05.train.parallel.kind import Kind, World, choose_kind, divided_by, held_bytes
from pi05.train.parallel.placement import count_parameters
from pi05.train.plan.counted_on import CountedOn, counted_on
from pi05.train.plan.gpus import GIB, Gpu
from pi05.train.plan.step_on_shapes import Shapes, StepMemory, measure_step

CUDA_CONTEXT = round(0.6 * GIB)
"""Bytes that CUDA and its libraries take outside of PyTorch's allocator. Assumption: 0.4 to 0.6 GiB are usual."""
FRAGMENTATION = 0.05
"""Share of the peak that is lost in gaps between blocks. Assumption, for segments that grow in place
(`device/setup.py`): with these 2 to 3 % are usual, without them and with lengths that differ 10 %."""
CUBLAS_WORKSPACE = 32 * 2**20
"""Bytes that PyTorch gives cuBLAS from its allocator on Hopper (`aten/src/ATen/cuda/CublasHandlePool.cpp`,
parseChosenWorkspaceSize); 8 MiB on older GPUs."""
COLLECTIVES = round(0.5 * GIB)
"""Bytes of NCCL's buffers with several GPUs. Assumption."""
MOST_OF_HOST = 0.8
"""Share of the machine's available memory that a run may lock in place."""
ONE_GPU = World()
GATHERED = 3
"""Whole layers that FSDP holds at once: the one in use, the one gathered ahead, one gradient before it is divided.

Without recomputation layers keep a bfloat16 copy of each matrix for the backward pass, which the step on shapes counts.
FSDP gathers that copy itself and frees it: up to 5 GiB less than is predicted here.
"""


@dataclass(frozen=True, kw_only=True)
class MemoryPrediction:
    """Bytes on one GPU at the moment of a step when most is allocated, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    """AdamW's moments."""
    average: int
    """The moving average of the weights."""
    activations: int
    """What the forward pass left for the backward pass, and the batch."""
    workspace: int
    """What one operation or one layer needs for itself: recomputed activations, temporary results, cuBLAS."""
    host: int
    """Bytes in host memory: moments and activations that wait there."""
    kind: Kind
    """How the network lies on several GPUs."""
    step: StepMemory

    @property
    def parts(self) -> dict[str, int]:
        """The parts of a step by name."""
        return {name: getattr(self, name) for name in _PARTS}

    @property
    def peak(self) -> int:
        """Peak of the CUDA allocator, in a step: the base is read in the precision that it is held in."""
        return sum(self.parts.values())

    @property
    def needed(self) -> int:
        """Memory that an empty GPU needs for this: the peak, the gaps, and CUDA itself."""
        return self.needed_beside_cuda + CUDA_CONTEXT

    @property
    def needed_beside_cuda(self) -> int:
        """Memory that a GPU needs for this where CUDA has taken its own already."""
        return round(self.peak * (1 + FRAGMENTATION))


def predict(
    config: TrainConfig,
    sizes: ModelConfig,
    shapes: Shapes,
    *,
    gpu: Gpu | None = None,
    world: World = ONE_GPU,
    step: StepMemory | None = None,
) -> MemoryPrediction:
    """Predict the memory of each GPU of a run. `gpu` decides what `--parallel=auto` means, without it DDP, and which
    kernels there are, without it those from Ampere on.

    `step` is the measured step where it is known already.
    """
    kind = planned_kind(config, sizes, gpu, world, step)
    kernels = counted_on(config, sizes, gpu)
    step = step or _measured(what_shapes_depend_on(config), sizes, shapes, kind == "ddp", kernels)
    parts = {name: step.at_peak.get(name, 0) for name in _PARTS}
    parts["workspace"] += CUBLAS_WORKSPACE
    if kind in ("fsdp", "hsdp"):
        over = divided_by(kind, world)
        for name in ("weights", "gradients", "optimizer", "average"):
            parts[name] = -(-parts[name] // over)
        parts["workspace"] += GATHERED * step.largest_unit
    if world.gpus > 1:
        parts["workspace"] += COLLECTIVES
    return MemoryPrediction(**parts, host=step.host, kind=kind, step=step)


def planned_kind(
    config: TrainConfig, sizes: ModelConfig, gpu: Gpu | None, world: World, step: StepMemory | None = None
) -> Kind:
    """Return how the network lies on the GPUs of a planned run, as the run itself will choose."""
    if world.gpus == 1 or config.parallel != "auto":
        return choose_kind(config, held=0, gpu_memory=None, world=world)
    if step is None:
        parameters, trained = _counted(what_shapes_depend_on(config), sizes)
    else:
        parameters, trained = step.parameters, step.trained
    held = held_bytes(config, parameters=parameters, trained=trained)
    return choose_kind(config, held=held, gpu_memory=None if gpu is None else gpu.memory, world=world)


@functools.lru_cache(maxsize=64)
def _counted(config: str, sizes: ModelConfig) -> tuple[int, int]:
    return count_parameters(TrainConfig.from_dict(json.loads(config)), sizes)


def what_shapes_depend_on(config: TrainConfig) -> str:
    """Return the configuration as text, without what changes no shape and is often different."""
    return replace(config, output_dir=None, job_name=None, resume=False, parallel="auto", allow=()).to_json()


@functools.lru_cache(maxsize=64)
def _measured(config: str, sizes: ModelConfig, shapes: Shapes, buckets: bool, kernels: CountedOn) -> StepMemory:
    return measure_step(TrainConfig.from_dict(json.loads(config)), sizes, shapes, buckets, kernels)


_PARTS = ("weights", "gradients", "optimizer", "average", "activations", "workspace")
