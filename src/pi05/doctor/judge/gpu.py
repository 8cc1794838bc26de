"""Driver, GPU, and the build of torch between them."""

from __future__ import annotations

from collections.abc import Iterator

from pi05.doctor.facts import Cards, Device, Machine, Torch
from pi05.doctor.judge.interpreter import older
from pi05.doctor.remedies import install_torch, update_driver
from pi05.doctor.torch_builds import NEWEST_DRIVER, NoBuild, choose_build, has_kernels
from pi05.finding import Finding, error, note, ok, warning

OLDEST_TORCH = "2.7"
BFLOAT16 = (8, 0)
"""Compute capability from which on GPUs calculate in bfloat16."""


def judge_gpu(cards: Cards, torch: Torch, machine: Machine) -> Iterator[Finding]:
    """Yield what is to be said about driver, GPUs and torch."""
    yield from _driver(cards, machine)
    if torch.fault is not None or torch.hangs_at is not None:
        yield _broken_torch(cards, torch, machine)
        return
    if older(torch.version, OLDEST_TORCH):
        yield error(
            "torch.old",
            f"torch {torch.version}, and pi05 needs {OLDEST_TORCH} or newer",
            "fails at the first function that this torch has not",
            install_torch(machine, cards.gpus),
        )
        return
    if not cards.gpus and not torch.devices:
        yield ok("torch.cpu", f"{torch.version}, on the CPU")
        return
    yield from _build(cards, torch, machine)


def _driver(cards: Cards, machine: Machine) -> Iterator[Finding]:
    if cards.smi is not None:
        mismatch = "version mismatch" in cards.smi
        yield error(
            "driver.broken",
            f"nvidia-smi fails: {cards.smi}",
            "finds no GPU",
            "sudo reboot  # the driver was updated, and the old one is still loaded"
            if mismatch
            else update_driver(machine),
        )
    elif cards.gpus:
        names = [gpu.name for gpu in cards.gpus]
        told = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
        yield ok("gpu.found", f"{told}, driver {cards.gpus[0].driver}")
    elif cards.on_bus:
        yield warning(
            "driver.missing",
            f"{cards.on_bus} NVIDIA GPUs are in this machine, and nvidia-smi is not",
            "trains on the CPU, which is for the demo only",
            "docker run --gpus all  # start the container with its GPUs"
            if machine.container
            else update_driver(machine),
        )
    else:
        yield note("gpu.none", "no GPU: training on the CPU is for the demo only")


def _broken_torch(cards: Cards, torch: Torch, machine: Machine) -> Finding:
    if torch.hangs_at is not None:
        alone = "its import" in torch.hangs_at
        together = "sum over all GPUs" in torch.hangs_at
        return error(
            "nccl.hangs" if together else "torch.hangs",
            f"torch does not come back from {torch.hangs_at}",
            "hangs at its start, without a message",
            "export NCCL_P2P_DISABLE=1"
            if together
            else install_torch(machine, cards.gpus)
            if alone
            else "nvidia-smi  # names the processes that hold the GPU: end them, or restart",
        )
    return error(
        "torch.import",
        f"torch cannot be imported: {torch.fault}",
        "fails at its start",
        install_torch(machine, cards.gpus),
    )


def _build(cards: Cards, torch: Torch, machine: Machine) -> Iterator[Finding]:
    remedy = install_torch(machine, cards.gpus)
    if torch.cuda is None:
        yield error(
            "torch.cpu_build",
            f"torch {torch.version} is a build without CUDA, and there is a GPU",
            "trains on the CPU, or says that there is no device cuda",
            remedy,
        )
        return
    if cards.gpus and int(torch.cuda.split(".")[0]) >= 13 and cards.gpus[0].driver_major < NEWEST_DRIVER:
        yield error(
            "driver.old",
            f"torch {torch.version} is built for CUDA {torch.cuda}, which needs driver {NEWEST_DRIVER} or newer; "
            f"the driver is {cards.gpus[0].driver}",
            "fails at the first use of the GPU",
            remedy,
        )
        return
    yield from _too_old_for_any(cards, machine)
    if torch.start is not None:
        hidden = cards.visible is not None and cards.visible.strip() in ("", "-1")
        yield error(
            "cuda.hidden" if hidden else "cuda.start",
            f"CUDA_VISIBLE_DEVICES={cards.visible} hides every GPU"
            if hidden
            else f"CUDA does not start: {torch.start}",
            "trains on the CPU, or says that there is no device cuda",
            "unset CUDA_VISIBLE_DEVICES"
            if hidden
            else "docker run --gpus all  # start the container again, with its GPUs"
            if machine.container
            else "sudo modprobe nvidia_uvm  # or restart",
        )
        return
    faults = [
        finding for index, device in enumerate(torch.devices) for finding in _device(index, device, torch, remedy)
    ]
    yield from faults
    if not any(finding.to_mend for finding in faults):
        done = "a kernel ran on each GPU" if torch.kernels else "it has kernels for each GPU"
        yield ok("torch.ok", f"{torch.version}, CUDA {torch.cuda}: {done}")
    if len(torch.devices) > 1 and torch.kernels:
        yield from _together(torch, remedy)


def _too_old_for_any(cards: Cards, machine: Machine) -> Iterator[Finding]:
    try:
        if cards.gpus:
            choose_build(cards.gpus)
    except NoBuild as reason:
        yield error(
            "driver.no_build",
            f"{reason.problem}; the driver is {cards.gpus[0].driver}",
            "fails in the first kernel",
            install_torch(machine, cards.gpus),
        )


def _device(index: int, device: Device, torch: Torch, remedy: str) -> Iterator[Finding]:
    name, number = f"GPU {index} ({device.name})", ".".join(map(str, device.capability))
    if not has_kernels(device.capability, torch.architectures):
        yield error(
            "torch.no_kernels",
            f"torch {torch.version} has no kernels for {name}, compute capability {number}: it was built for "
            f"{', '.join(torch.architectures)}",
            "fails with 'no kernel image is available'",
            remedy,
        )
    elif device.fault is not None:
        yield error(
            "torch.kernel",
            f"a kernel fails on {name}: {device.fault}",
            "fails in its first step",
            f"nvidia-smi -q -d ECC -i {index}  # errors there: the card is at fault; none: {remedy}",
        )
    elif device.capability < BFLOAT16:
        yield note(
            "gpu.no_bfloat16",
            f"{name}, compute capability {number}, does not calculate in bfloat16",
            "takes several times as long as on newer GPUs, and is not tested there",
            "pi05 train --precision=float32",
        )


def _together(torch: Torch, remedy: str) -> Iterator[Finding]:
    if torch.nccl is None:
        yield error(
            "nccl.missing",
            "this build of torch has no NCCL",
            "cannot use more than one GPU",
            remedy,
        )
    elif torch.sum_fault is not None:
        yield error(
            "nccl.sum",
            f"a sum over all GPUs fails: {torch.sum_fault}",
            "on several GPUs fails or hangs at its start",
            "export NCCL_P2P_DISABLE=1  # NCCL_DEBUG=INFO pi05 doctor tells more",
        )
    else:
        yield ok("nccl.ok", f"NCCL {torch.nccl}: a sum over {len(torch.devices)} GPUs is right")
    if torch.without_peer:
        pairs = sorted({(min(pair), max(pair)) for pair in torch.without_peer})
        told = ", ".join(f"{one} and {other}" for one, other in pairs[:3])
        more = f" and {len(pairs) - 3} more pairs" if len(pairs) > 3 else ""
        yield note(
            "gpu.no_peer",
            f"GPUs {told}{more} do not reach each other's memory, as is usual for GeForce cards",
            "on several GPUs sends gradients through the memory of the CPU",
        )
