"""GPUs that a run can be planned for: memory, arithmetic and bandwidth, by name. Torch-free.

`memory_gib` is what PyTorch calls the total capacity (its out-of-memory messages print it), which is less than the
number on the box. Arithmetic is the makers' dense bfloat16 peak with float32 sums, without sparsity.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


def gib(count: float) -> str:
    """Write bytes as GiB."""
    return f"{count / GIB:.1f}"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU."""

    name: str
    title: str
    memory_gib: float
    """Memory that PyTorch sees, in GiB."""
    bf16_tflops: float
    """Peak of dense bfloat16 products, in TFLOP/s."""
    bandwidth_gbs: float
    """Peak of its memory, in GB/s."""
    capability: tuple[int, int]
    """Compute capability; (0, 0) where nothing tells."""
    nvlink: bool
    """Whether GPUs of this kind in one machine are joined by NVLink; else they talk over PCIe."""
    source: str

    @property
    def memory(self) -> int:
        """Memory in bytes."""
        return round(self.memory_gib * GIB)


_AMPERE = "NVIDIA, GA102 architecture whitepaper"
_ADA = "NVIDIA, Ada GPU architecture whitepaper"
_BLACKWELL = "NVIDIA, RTX Blackwell GPU architecture whitepaper"

_TABLE = (
    ("rtx3090", "GeForce RTX 3090", 23.6, 71.0, 936, (8, 6), False, _AMPERE),
    ("rtx4090", "GeForce RTX 4090", 23.6, 165.2, 1008, (8, 9), False, _ADA),
    ("rtx5090", "GeForce RTX 5090", 31.3, 209.5, 1792, (12, 0), False, _BLACKWELL),
    ("a100-40", "A100 40 GB", 39.4, 312.0, 1555, (8, 0), True, "NVIDIA, A100 data sheet"),
    ("a100-80", "A100 80 GB SXM", 79.1, 312.0, 2039, (8, 0), True, "NVIDIA, A100 data sheet"),
    ("l40s", "L40S", 44.4, 362.0, 864, (8, 9), False, "NVIDIA, L40S data sheet"),
    ("h100", "H100 80 GB SXM", 79.1, 989.0, 3350, (9, 0), True, "NVIDIA, H100 data sheet"),
    ("h200", "H200 141 GB SXM", 139.7, 989.0, 4800, (9, 0), True, "NVIDIA, H200 data sheet"),
    ("b200", "B200", 178.3, 2250.0, 8000, (10, 0), True, "NVIDIA, HGX B200 data sheet"),
)

GPUS: dict[str, Gpu] = {
    name: Gpu(
        name=name,
        title=title,
        memory_gib=memory,
        bf16_tflops=tflops,
        bandwidth_gbs=bandwidth,
        capability=capability,
        nvlink=nvlink,
        source=source,
    )
    for name, title, memory, tflops, bandwidth, capability, nvlink, source in _TABLE
}
