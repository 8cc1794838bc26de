"""torch, measured by `torch_child.py`: the answer of that process as facts."""

from __future__ import annotations

from collections.abc import Callable

from pi05.child import ChildAnswer, ask_child
from pi05.doctor.facts import Device, Torch

CHILD = "pi05.doctor.probes.torch_child"
SECONDS = 120.0
"""The first import from a network disk takes a minute, and so does the start of CUDA on a machine with 8 GPUs."""


def probe_torch(*, kernels: bool = True, ask: Callable[..., ChildAnswer] = ask_child) -> Torch:
    """Ask a child what torch sees; with `kernels` it runs one on every GPU, and a sum over all of them."""
    answer = ask(CHILD, *([] if kernels else ["--without-kernels"]), seconds=SECONDS)
    if answer.result is None:
        return Torch(fault=answer.fault, hangs_at=answer.hangs_at, kernels=kernels)
    result = answer.result
    devices = [Device(name=d["name"], capability=tuple(d["capability"]), fault=d["fault"]) for d in result["devices"]]
    return Torch(
        version=result["version"],
        cuda=result["cuda"],
        architectures=tuple(result.get("architectures", ())),
        devices=tuple(devices),
        start=result.get("start"),
        nccl=result.get("nccl"),
        sum_fault=result.get("sum_fault"),
        without_peer=tuple((one, other) for one, other in result["without_peer"]),
        kernels=kernels,
    )
