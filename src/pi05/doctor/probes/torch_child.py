"""What torch sees, said by a process of its own: `python -m pi05.doctor.probes.torch_child [--without-kernels]`.

A kernel is a real one (a product of matrices in bfloat16); between GPUs it is a sum by NCCL. Every number of the result
comes from torch; nothing is judged here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pi05.child import begin, give

SIDE = 64


def measure(torch: Any, *, kernels: bool, begin: Callable[[str], None] = begin) -> dict[str, Any]:
    """Return the fields of `facts.Torch`."""
    found: dict[str, Any] = {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "kernels": kernels,
        "devices": [],
        "without_peer": [],
    }
    if torch.version.cuda is None:
        return found
    begin("the start of CUDA")
    count = torch.cuda.device_count()
    try:
        if count:
            torch.cuda.init()
    except Exception as error:
        found["start"] = first_line(error)
        return found
    if not torch.cuda.is_available():
        found["start"] = "torch sees no GPU"
        return found
    found["architectures"] = list(torch.cuda.get_arch_list())
    begin("a kernel")
    for index in range(count):
        fault = run_kernel(torch, index) if kernels else None
        capability = list(torch.cuda.get_device_capability(index))
        name = torch.cuda.get_device_name(index)
        found["devices"].append({"name": name, "capability": capability, "fault": fault})
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    if count > 1 and kernels:
        found |= measure_together(torch, count, begin)
    return found


def run_kernel(torch: Any, index: int) -> str | None:
    """Return why a product of matrices fails on a GPU; None where it is right."""
    try:
        ones = torch.ones(SIDE, SIDE, device=f"cuda:{index}", dtype=torch.bfloat16)
        total = float((ones @ ones).float().sum())
    except Exception as error:
        return first_line(error)
    return None if total == SIDE**3 else f"a sum that is {SIDE**3} came out as {total:g}"


def measure_together(torch: Any, count: int, begin: Callable[[str], None]) -> dict[str, Any]:
    """Return what several GPUs do with each other."""
    pairs = [(one, other) for one in range(count) for other in range(count) if one != other]
    found: dict[str, Any] = {"without_peer": [pair for pair in pairs if not torch.cuda.can_device_access_peer(*pair)]}
    begin("a sum over all GPUs")
    try:
        tensors = [torch.ones(1, device=f"cuda:{index}") for index in range(count)]
        torch.cuda.nccl.all_reduce(tensors)
        sums = [float(tensor) for tensor in tensors]
        found["sum_fault"] = None if sums == [float(count)] * count else f"the sum came out as {sums}"
    except Exception as error:
        found["sum_fault"] = first_line(error)
    return found


def first_line(error: BaseException) -> str:
    """Return what an exception says, without the hints that CUDA's errors carry behind it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    begin("its import")
    import torch

    give(measure(torch, kernels="--without-kernels" not in sys.argv[1:]))
