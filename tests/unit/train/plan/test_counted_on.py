"""A plan counts on the kernels that the run itself would take, by the functions that the run calls."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pi05.model.config import pi05
from pi05.train.config import TrainConfig
from pi05.train.device.varlen import why_no_varlen
from pi05.train.optim import build
from pi05.train.optim.adamw import Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer
from pi05.train.plan.counted_on import counted_on, masked_kernel, why_no_triton_there
from pi05.train.plan.gpus import GPUS

PACKED = TrainConfig(optimizer_state="8bit")
OLD = replace(GPUS["rtx3090"], capability=(7, 5))


def find_nothing_called(*names: str) -> Any:
    def find(name: str) -> object | None:
        return None if name in names else object()

    return find


@pytest.mark.parametrize("gpu", [*GPUS.values(), OLD], ids=lambda gpu: f"{gpu.name} {gpu.capability}")
@pytest.mark.parametrize("precision", ["mixed", "bf16-sr", "float32"])
@pytest.mark.parametrize("missing", ["", "torch.nn.attention.varlen"])
def test_keys_are_packed_where_a_run_on_that_gpu_would_try_it(
    gpu: Any, precision: Any, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", find_nothing_called(missing))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: gpu.capability)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    of_a_run = why_no_varlen(torch.device("cuda"), dtype, pi05().head_dim)
    found = counted_on(TrainConfig(precision=precision), pi05(), gpu)
    assert (found.packed, found.why_masked) == (of_a_run is None, of_a_run)
    assert found.packed == (gpu is not OLD and precision != "float32" and not missing)


MISSING = {
    "": None,
    "triton": "the package triton is missing",
    "compiler": "a C compiler is missing (CC is 'no-such-compiler')",
    "headers": "Python.h is missing (Debian: python3-dev)",
}


@pytest.mark.parametrize("missing", MISSING)
def test_the_update_is_the_one_that_a_run_would_take_where_its_trials_pass(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a machine whose PyTorch is built for a GPU."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("importlib.util.find_spec", find_nothing_called(missing))
    monkeypatch.setenv("CC", "no-such-compiler" if missing == "compiler" else sys.executable)
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path))
    if missing != "headers":
        (tmp_path / "Python.h").touch()
    monkeypatch.setattr(build, "why_no_kernel", lambda *_: None)
    monkeypatch.setattr(build, "why_not_compiled", lambda *_: None)
    monkeypatch.setattr("pi05.train.optim.kernel_update.kernels", object)
    schedule = Schedule(peak=1e-3, warmup_steps=0, decay_steps=10, end=1e-4)
    run = build.build_optimizer(PACKED, {"w": nn.Parameter(torch.zeros(4))}, schedule, torch.device("cuda"))
    assert isinstance(run, LowMemoryOptimizer)
    found = counted_on(PACKED, pi05(), GPUS["rtx4090"])
    assert (found.update, found.why_slow) == (run.way, run.why_no_kernel)
    assert (found.update, found.why_slow) == ("plain" if missing else "kernel", MISSING[missing])
    assert why_no_triton_there() == MISSING[missing]


def test_where_pytorch_is_for_cpus_the_build_for_gpus_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr("importlib.util.find_spec", find_nothing_called("triton"))
    assert counted_on(PACKED, pi05(), GPUS["h200"]).update == "kernel"
    assert counted_on(TrainConfig(), pi05(), GPUS["h200"]).update is None, "PyTorch's own AdamW"


def test_what_a_mask_would_get() -> None:
    kernels = {name: masked_kernel(gpu, 256) for name, gpu in GPUS.items()}
    assert kernels["h200"] == kernels["h100"] == "cudnn"
    assert {kernels[name] for name in GPUS if name not in ("h100", "h200")} == {"efficient"}
