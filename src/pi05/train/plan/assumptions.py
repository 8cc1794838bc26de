"""What a plan takes for granted, in sentences: gaps, speed, the exchange between GPUs, attention's kernels.

Leaves out the numbers themselves (`memory.py`, `speed.py`, `device/kernels.py`) and the tables (`report.py`).
"""

from __future__ import annotations

from pi05.train.device.kernels import CUDNN_OF_WHEELS, KERNEL_NAMES, expected_kernel
from pi05.train.plan.gpus import gib
from pi05.train.plan.memory import COLLECTIVES, CUDA_CONTEXT, FRAGMENTATION, MOST_OF_HOST
from pi05.train.plan.methods import Plan
from pi05.train.plan.speed import NVLINK_EXCHANGE, PCIE_EXCHANGE, UTILISATION, Speed

MASKED = "language and expert with a mask"
PROBED = (
    "the kernel is PyTorch's choice (rules of 2.11 to 2.13 for CUDA 13); before its first step a run asks for it, "
    "compares its gradients with float32's, and switches off what is wrong; from PyTorch 2.10 on it then packs the "
    "keys of padded batches for flash attention, in the place of a mask, if that is right: not counted on"
)


def assumptions(plan: Plan) -> list[str]:
    """Return what a plan takes for granted, one sentence each."""
    found = [
        f"{FRAGMENTATION:.0%} of the peak lost in gaps (runs switch expandable_segments on: memory grows in place) "
        f"and {gib(CUDA_CONTEXT)} GiB for CUDA itself: assumed",
        "memory: of layers without torch.compile; with --policy.compile_model they fuse, and are taken to need as much "
        "or less",
        "speed: no GPU has been measured with this program yet; "
        f"{UTILISATION:.0%} of the peak arithmetic is assumed (what openpi reaches on an H200), data in time",
    ]
    if plan.memory.host:
        found.append(
            f"host memory: {gib(plan.host)} GiB in each machine, page-locked in powers of two; a run is refused where "
            f"that is more than {MOST_OF_HOST:.0%} of what is available"
        )
    if plan.world.gpus > 1:
        found.append(f"{plan.world.gpus} GPUs: parts divided by arithmetic, {gib(COLLECTIVES)} GiB for NCCL: assumed")
        if plan.memory.kind == "ddp":
            found.append("ddp keeps room for all gradients from the first step to the last: counted")
        if plan.speed is not None:
            found.append(exchange_line(plan, plan.speed))
    return found


def exchange_line(plan: Plan, speed: Speed) -> str:
    """Say what the GPUs exchange in a step, over which link, and whether that decides how long the step takes."""
    link = "NVLink" if plan.gpu.nvlink else "PCIe"
    rate = NVLINK_EXCHANGE if plan.gpu.nvlink else PCIE_EXCHANGE
    told = (
        f"{speed.exchanged / 1e9:.1f} GB exchanged by each GPU in a step, {speed.exchange_seconds:.2g} s over {link} "
        f"at {rate / 1e9:.0f} GB/s, beside the arithmetic: assumed"
    )
    return told if speed.exchange_seconds < speed.step_seconds / 2 else f"{told}; it decides the time of a step"


def attention_kernels(plan: Plan) -> dict[str, str]:
    """Return the kernel of attention that is expected in each tower; prompts of different lengths are masked."""
    if not plan.gpu.bf16_tflops or plan.config.precision == "float32":
        return {}
    sizes = plan.sizes

    def name(head_dim: int, masked: bool) -> str:
        return KERNEL_NAMES[
            expected_kernel(plan.gpu.capability, head_dim=head_dim, masked=masked, cudnn=CUDNN_OF_WHEELS)
        ]

    return {
        "vision": name(sizes.vision_width // sizes.vision_heads, False),
        "language and expert": name(sizes.head_dim, False),
        MASKED: name(sizes.head_dim, True),
    }


def attention_line(plan: Plan) -> str:
    """Say which kernels of attention are expected on a GPU, and what a run does before it takes them."""
    words = ", ".join(f"{tower} {kernel}" for tower, kernel in attention_kernels(plan).items())
    return f"attention: {words} expected; {PROBED}" if words else f"attention: {PROBED}"
