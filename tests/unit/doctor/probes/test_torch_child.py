"""What the child measures, on a torch that is not there: GPUs that work, fail, or do not reach each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from pi05.doctor.probes.torch_child import SIDE, measure


class Ones:
    """A matrix of ones, or their sum."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value

    def __matmul__(self, _: Ones) -> Ones:
        return Ones(SIDE**3)

    def float(self) -> Ones:
        return self

    def sum(self) -> Ones:
        return self

    def __float__(self) -> float:
        return float(self.value)


def fake_torch(count: int = 2, **cuda: Any) -> Any:
    def all_reduce(tensors: list[Ones]) -> None:
        for tensor in tensors:
            tensor.value = len(tensors)

    functions: dict[str, Any] = {
        "device_count": lambda: count,
        "init": lambda: None,
        "is_available": lambda: count > 0,
        "get_arch_list": lambda: ["sm_90"],
        "get_device_capability": lambda index: (9, 0),
        "get_device_name": lambda index: f"card {index}",
        "can_device_access_peer": lambda one, other: one > other,
        "nccl": SimpleNamespace(version=lambda: (2, 28, 9), all_reduce=all_reduce),
    }
    return SimpleNamespace(
        __version__="2.13.0+cu130",
        version=SimpleNamespace(cuda="13.0"),
        bfloat16="bfloat16",
        ones=lambda *_, **__: Ones(),
        cuda=SimpleNamespace(**functions | cuda),
        distributed=SimpleNamespace(is_available=lambda: True, is_nccl_available=lambda: True),
    )


def raises(text: str) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(text)

    return fail


def test_two_gpus_that_work_say_so_stage_by_stage() -> None:
    stages: list[str] = []
    found = measure(fake_torch(), kernels=True, begin=stages.append)
    assert [device["fault"] for device in found["devices"]] == [None, None]
    assert (found["nccl"], found["sum_fault"], found["without_peer"]) == ("2.28.9", None, [(0, 1)])
    assert stages == ["the start of CUDA", "a kernel", "a sum over all GPUs"]


def test_without_kernels_none_is_run() -> None:
    broken = fake_torch()
    broken.ones = raises("CUDA error")
    found = measure(broken, kernels=False, begin=lambda _: None)
    assert [device["fault"] for device in found["devices"]] == [None, None]
    assert "sum_fault" not in found


def test_a_kernel_that_fails_and_one_that_is_wrong() -> None:
    failing, wrong = fake_torch(1), fake_torch(1)
    failing.ones = raises("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")
    wrong.ones = lambda *_, **__: type("Wrong", (Ones,), {"__matmul__": lambda self, _: Ones(7)})()
    faults = [measure(t, kernels=True, begin=lambda _: None)["devices"][0]["fault"] for t in (failing, wrong)]
    assert faults == ["CUDA error: no kernel image is available", f"a sum that is {SIDE**3} came out as 7"]


def test_a_sum_over_gpus_that_fails() -> None:
    nccl = SimpleNamespace(version=lambda: (2, 1), all_reduce=raises("NCCL Error 1"))
    assert measure(fake_torch(nccl=nccl), kernels=True, begin=lambda _: None)["sum_fault"] == "NCCL Error 1"
    idle = SimpleNamespace(version=lambda: (2, 1), all_reduce=lambda tensors: None)
    found = measure(fake_torch(nccl=idle), kernels=True, begin=lambda _: None)
    assert found["sum_fault"] == "the sum came out as [1.0, 1.0]"


def test_cuda_that_does_not_start() -> None:
    found = measure(fake_torch(init=raises("CUDA unknown error")), kernels=True, begin=lambda _: None)
    assert (found["start"], found["devices"]) == ("CUDA unknown error", [])
    assert measure(fake_torch(0), kernels=True, begin=lambda _: None)["start"] == "torch sees no GPU"


def test_the_torch_of_this_environment() -> None:
    found = measure(torch, kernels=True, begin=lambda _: None)
    assert found["version"] == torch.__version__
    assert len(found["devices"]) == torch.cuda.device_count()
