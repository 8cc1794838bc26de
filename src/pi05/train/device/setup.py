"""How a run sets its GPU up: what the environment must say before CUDA starts, and what PyTorch is told afterwards.

Leaves out which device a run takes (`network.own_device`) and attention's kernels (`attention_probe.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path

import torch

from pi05.errors import ConfigError
from pi05.train.config import TrainConfig
from pi05.train.device.kernels import OLDEST

ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Either name configures PyTorch's allocator; from 2.9 on the first is preferred, 2.7 knows the second only."""
SEGMENTS = "expandable_segments:True"
"""Memory that grows in place of separate blocks: batches whose lengths differ leave fewer gaps."""
CUBLAS, CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
"""What cuBLAS needs to give the same sums each time (NVIDIA, cuBLAS documentation, "Results reproducibility")."""
KERNEL_VERSION = Path("/proc/version")


def prepare_environment(deterministic: bool, environment: MutableMapping[str, str] = os.environ) -> None:
    """Say what CUDA and PyTorch read from the environment once, when they start. What the user says goes first."""
    if sys.platform == "linux" and not any(name in environment for name in ALLOCATOR):
        environment[ALLOCATOR[1]] = SEGMENTS
    if deterministic:
        environment.setdefault(CUBLAS, CUBLAS_WORKSPACE)


def prepare_device(config: TrainConfig, device: torch.device, tell: Callable[[str], None] = lambda _: None) -> None:
    """Set PyTorch up for a run on this device; tell what the user should know.

    Raises ConfigError for a GPU that does not calculate in the precision that is asked for.
    """
    # Sums of products in float32 to their end, as openpi's compiler does it; PyTorch's default lets cuBLAS round the
    # parts of a long sum to bfloat16 first, where a product has few rows.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    if config.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # all is written before it is read
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if device.type != "cuda":
        return
    require_precision(config.precision, torch.cuda.get_device_capability(device), torch.cuda.get_device_name(device))
    if under_windows():
        tell(f"notice: {SPILLS}")


def require_precision(precision: str, capability: tuple[int, int], name: str) -> None:
    """Raise ConfigError for bfloat16 on a GPU older than Ampere, which has neither its products nor its attention."""
    if precision == "float32" or capability >= OLDEST:
        return
    raise ConfigError(
        f"this GPU ({name}) does not calculate in bfloat16",
        wanted=f"compute capability {OLDEST[0]}.{OLDEST[1]} or newer for --precision={precision}",
        found=f"{capability[0]}.{capability[1]}",
        remedy="use --precision=float32, which is several times as slow here, or a newer GPU",
    )


SPILLS = (
    "this is Linux under Windows (WSL), whose driver moves what does not fit the GPU into the machine's memory instead "
    "of failing: a run that is many times slower than planned has done that; set 'CUDA - Sysmem Fallback Policy' to "
    "'Prefer No Sysmem Fallback' in NVIDIA's control panel"
)


def under_windows(version: Path = KERNEL_VERSION) -> bool:
    """Tell whether this Linux is a guest of Windows."""
    try:
        return "microsoft" in version.read_text(encoding="utf-8", errors="replace").lower()
    except OSError:  # not Linux
        return False
