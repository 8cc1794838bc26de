"""Which kernels a planned run counts on, by the decisions of the run itself: keys packed or masked, which update.

The GPU need not be here. PyTorch is taken to be the version that is. Where its own build is for CPUs, Triton and a C
compiler are taken to be there: builds for CUDA bring Triton along. What the probes before a run's first step would
find, no plan knows; what changes where they refuse a kernel is `update_on_shapes.py`'s and `roofline.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pi05.model.config import ModelConfig
from pi05.train.config import TrainConfig
from pi05.train.device.kernels import CUDNN_OF_WHEELS, OLDEST, Kernel, expected_kernel
from pi05.train.device.varlen import why_masked
from pi05.train.network import compute_dtype
from pi05.train.optim.way import Way, choose_way
from pi05.train.plan.gpus import Gpu
from pi05.triton_here import why_no_triton


@dataclass(frozen=True, kw_only=True)
class CountedOn:
    """The kernels of a planned step, as far as its memory and its traffic depend on them."""

    packed: bool
    """Whether the keys of padded batches are packed for flash attention, in the place of a mask."""
    update: Way | None
    """How the low-memory update runs; None where the optimizer is PyTorch's own AdamW, which is one kernel."""
    why_masked: str | None = None
    """What stands against packed keys, where something does."""
    why_slow: str | None = None
    """What stands against an update by kernels of its own, where something does."""


def counted_on(config: TrainConfig, sizes: ModelConfig, gpu: Gpu | None = None) -> CountedOn:
    """Return what a run counts on, on this GPU or, without one, on any from Ampere on."""
    capability = OLDEST if gpu is None else gpu.capability
    against_packing = why_masked(capability, compute_dtype(config.precision), sizes.head_dim)
    packed = against_packing is None
    if not config.own_optimizer:
        return CountedOn(packed=packed, update=None, why_masked=against_packing)
    missing = why_no_triton_there()
    chosen = choose_way(True, lambda _: missing)
    return CountedOn(packed=packed, update=chosen.way, why_masked=against_packing, why_slow=chosen.why_no_kernel)


def masked_kernel(gpu: Gpu, head_dim: int) -> Kernel:
    """Return the kernel that PyTorch takes on a GPU where keys are masked."""
    return expected_kernel(gpu.capability, head_dim=head_dim, masked=True, cudnn=CUDNN_OF_WHEELS)


def why_no_triton_there() -> str | None:
    """Return what stands against Triton in a planned run; None where PyTorch here is for no GPU: another one runs."""
    return None if torch.version.cuda is None and torch.version.hip is None else why_no_triton()
