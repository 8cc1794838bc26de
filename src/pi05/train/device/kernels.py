"""Which kernel of attention PyTorch gives a training step on which GPU, by its rules. Torch-free.

The rules are those of `aten/src/ATen/native/transformers/cuda/sdp_utils.cpp` in PyTorch 2.11 to 2.13, read in its
source and in the wheel's machine code, for bfloat16, dense tensors and no dropout. They are a prediction: on the GPU
itself `attention_probe.py` asks PyTorch. Leaves out what the kernels cost.
"""

from __future__ import annotations

from typing import Literal

Capability = tuple[int, int]
"""A GPU's compute capability: (8, 0) is A100, (8, 6) RTX 30, (8, 9) RTX 40 and L40S, (9, 0) H100 and H200, (10, 0)
B200, (12, 0) RTX 50."""
Kernel = Literal["math", "flash", "efficient", "cudnn"]
"""math builds the matrix of all scores; efficient is the memory-efficient kernel."""
KERNEL_NAMES: dict[Kernel, str] = {
    "math": "math (all scores)",
    "flash": "flash",
    "efficient": "memory-efficient",
    "cudnn": "cuDNN",
}
PACKED_NAME = "flash with packed keys"
"""What attention over sequences of different lengths is called, in plans and in the probe's line."""
OLDEST: Capability = (8, 0)
"""The first GPUs with products, and fast attention, in bfloat16: Ampere."""
CUDNN_PREFERRED = 91500
"""cuDNN newer than 9.15 comes first on Hopper and the large Blackwell (`check_prefer_cudnn_attention`)."""
CUDNN_OF_WHEELS = 92000
"""cuDNN in PyTorch's wheels for CUDA 13, version 2.13; 2.11 has 9.19."""
LARGEST_HEAD = 256
"""Of flash, and of cuDNN on Hopper."""
LARGEST_HEAD_CUDNN = 128
"""Of cuDNN elsewhere."""
WRONG_LENGTH, OF = 64, 128
"""cuDNN's backward pass has returned NaN for masked lengths of 64 modulo 128 where a row's logarithm of the sum of
exponentials is below -88.7 (https://github.com/pytorch/pytorch/issues/196678: H100 and H200, PyTorch 2.11 to 2.13)."""


def expected_kernel(capability: Capability, *, head_dim: int, masked: bool, cudnn: int | None) -> Kernel:
    """Return the kernel of a training step in bfloat16 on a GPU; `cudnn` is the version of cuDNN, None where it is off.

    Query heads of one key/value head are folded, so all heads are alike and nothing is causal.
    """
    if capability < OLDEST:
        return "math"
    if prefers_cudnn(capability, head_dim, cudnn):
        return "cudnn"
    return "efficient" if masked or not flash_takes(capability, head_dim) else "flash"


def prefers_cudnn(capability: Capability, head_dim: int, cudnn: int | None) -> bool:
    """Tell whether PyTorch takes cuDNN's kernel before all others."""
    if cudnn is None or cudnn <= CUDNN_PREFERRED or capability[0] not in (9, 10) or head_dim % 8:
        return False
    return head_dim <= (LARGEST_HEAD if capability[0] == 9 else LARGEST_HEAD_CUDNN)


def flash_takes(capability: Capability, head_dim: int) -> bool:
    """Tell whether flash attention has a forward and a backward pass for heads of this width, without a mask."""
    small_cache = (8, 6) <= capability <= (8, 9) or (12, 0) <= capability <= (12, 1)
    return capability >= OLDEST and head_dim <= LARGEST_HEAD and not (small_cache and 192 < head_dim <= 224)
