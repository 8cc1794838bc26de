"""What a plan takes for granted, in sentences: gaps, speed, the exchange between GPUs, kernels.

Leaves out which kernels those are (`counted_on.py`), the numbers themselves (`memory.py`, `speed.py`, `roofline.py`)
and the tables (`report.py`).
"""

from __future__ import annotations

from pi05.train.device.kernels import CUDNN_OF_WHEELS, KERNEL_NAMES, PACKED_NAME, expected_kernel
from pi05.train.optim.way import Way
from pi05.train.parallel.kind import divided_by
from pi05.train.plan.counted_on import masked_kernel
from pi05.train.plan.gpus import gib
from pi05.train.plan.memory import COLLECTIVES, CUDA_CONTEXT, FRAGMENTATION, MOST_OF_HOST
from pi05.train.plan.methods import Plan
from pi05.train.plan.roofline import count_operations
from pi05.train.plan.speed import NVLINK_EXCHANGE, PCIE_EXCHANGE, UTILISATION, Speed

PADDED = "language and expert with padded prompts"
PROBED = (
    "the kernels are PyTorch's choice (rules of 2.11 to 2.13 for CUDA 13); before its first step a run asks for each "
    "at its own sizes, compares one backward pass with float32's, and switches off what is wrong"
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
    """Return the kernel of attention that is counted on in each tower; empty where no rule is known."""
    if not plan.gpu.bf16_tflops or plan.config.precision == "float32":
        return {}
    sizes = plan.sizes

    def name(head_dim: int) -> str:
        return KERNEL_NAMES[
            expected_kernel(plan.gpu.capability, head_dim=head_dim, masked=False, cudnn=CUDNN_OF_WHEELS)
        ]

    return {
        "vision": name(sizes.vision_width // sizes.vision_heads),
        "language and expert": name(sizes.head_dim),
        PADDED: PACKED_NAME if plan.kernels.packed else _masked(plan),
    }


def attention_line(plan: Plan) -> str:
    """Say which kernels of attention are counted on, what a run does before it takes them, and what else there is."""
    words = ", ".join(f"{tower} {kernel}" for tower, kernel in attention_kernels(plan).items())
    if not words:
        return f"attention: {PROBED}"
    if not plan.kernels.packed:
        return f"attention: {words} counted on, since {plan.kernels.why_masked}; {PROBED}"
    operations = count_operations(plan.config, plan.sizes, plan.shapes, kernels=plan.kernels)
    longer = 1000 * operations.seconds_for_masks(plan.gpu)
    return (
        f"attention: {words} counted on; {PROBED}; where packed keys are wrong, keys are masked ({_masked(plan)}): "
        f"no more memory, and a step that takes {longer:.0f} ms longer"
    )


def _masked(plan: Plan) -> str:
    return KERNEL_NAMES[masked_kernel(plan.gpu, plan.sizes.head_dim)]


def update_line(plan: Plan) -> str | None:
    """Say how the low-memory update is counted on to run, what a run tries before, and what else there is.

    None where the optimizer is PyTorch's own.
    """
    step, way = plan.memory.step, plan.kernels.update
    if way is None or not step.moved_by:
        return None
    moved = f"{step.moved_by[way] / 1e9:.3g} GB moved in a step"
    read_back = f"{gib(step.read_back)} GiB for moments from host memory, a portion at a time" if step.read_back else ""
    if way != "kernel":
        return (
            f"update: operation by operation counted on, since {plan.kernels.why_slow}: {moved}, "
            f"{gib(step.update_workspace)} GiB for itself while it runs" + (f", and {read_back}" if read_back else "")
        )
    slower = [f"{step.moved_by[each] / 1e9:.3g} GB" for each in SLOWER]
    return (
        f"update: kernels of its own counted on (Triton): {moved}, {read_back or 'nothing for itself'}; before its "
        "first step a run compares their bits with those of the plain update on the CPU; where they differ the update "
        "is compiled "
        f"({slower[0]}) or runs operation by operation ({slower[1]}{_longer(plan)}), and takes up to "
        f"{gib(step.update_workspace)} GiB for itself while it runs"
    )


SLOWER: tuple[Way, Way] = ("compiled", "plain")
"""What the update falls back to, the faster first."""


def _longer(plan: Plan) -> str:
    """Say how much longer a step takes at worst; nothing where the bandwidth is not known."""
    if not plan.gpu.bandwidth_gbs:
        return ""
    by = plan.memory.step.moved_by
    seconds = (by["plain"] - by["kernel"]) / divided_by(plan.memory.kind, plan.world) / (plan.gpu.bandwidth_gbs * 1e9)
    return f", a step {seconds:.2g} s longer"
