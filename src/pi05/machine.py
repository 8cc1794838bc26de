"""The machine: which device a name means, and what a reader needs to place a number that was measured on it."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Any

import torch

from pi05.errors import ConfigError


def choose_device(name: str, index: int | None = None) -> torch.device:
    """Return the device of a `--device`: cpu, cuda, cuda:N, or auto, which is CUDA where there is a GPU.

    `index` is the GPU for a name that names none. Raises ConfigError when the device is not there.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda" if name == "auto" else name)
    if device.type == "cuda" and device.index is None and index is not None:
        device = torch.device("cuda", index)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"there is no device {name}",
            wanted=name,
            found=f"{torch.cuda.device_count()} CUDA devices, torch {torch.__version__}",
            remedy="pi05 doctor says why, and which build of torch this GPU needs; or use auto or cpu; torchrun wants "
            "one process per GPU (--nproc-per-node)",
        )
    return device


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and return whether its C library can (glibc can).

    A training step on a CPU allocates and frees the same large tensors again and again. By default glibc gives them
    back to the kernel, which then hands out zeroed pages one by one: about 5 % of a step's CPU time. The process stays
    as large as it once was. GPUs are not concerned: PyTorch keeps their memory itself.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or platform.libc_ver()[0] != "glibc":
        return False
    return all(mallopt(option, value) for option, value in _KEEP)


# From glibc's malloc.h: M_MMAP_MAX, no mapping of its own for a large block; M_TRIM_THRESHOLD, never shrink the heap;
# M_TOP_PAD, grow it by 64 MiB at a time.
_KEEP = ((-4, 0), (-1, -1), (-2, 64 << 20))


def machine_info() -> dict[str, Any]:
    """Return the machine as plain data: system, processor, cores, GPU (None without one), Python, torch."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor_name(),
        "cpu_cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "unknown"
