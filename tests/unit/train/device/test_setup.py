"""What a run says to CUDA and PyTorch about its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from pi05.errors import ConfigError
from pi05.train.config import TrainConfig
from pi05.train.device.setup import prepare_device, prepare_environment, require_precision, under_windows

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _settings_stay() -> Iterator[None]:
    matmul, filling = torch.backends.cuda.matmul, torch.utils.deterministic
    before = matmul.allow_bf16_reduced_precision_reduction, filling.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    matmul.allow_bf16_reduced_precision_reduction, filling.fill_uninitialized_memory = before


def test_memory_grows_in_place_unless_the_user_says_otherwise() -> None:
    found: dict[str, str] = {}
    prepare_environment(False, found)
    assert found == {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        own = {name: "max_split_size_mb:64"}
        prepare_environment(False, own)
        assert own == {name: "max_split_size_mb:64"}


def test_cublas_is_told_before_it_starts() -> None:
    found = {"PYTORCH_ALLOC_CONF": ""}
    prepare_environment(True, found)
    assert found["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    own = {"PYTORCH_ALLOC_CONF": "", "CUBLAS_WORKSPACE_CONFIG": ":16:8"}
    prepare_environment(True, own)
    assert own["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_long_sums_stay_in_float32() -> None:
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
    prepare_device(TrainConfig(), CPU)
    assert torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction is False
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_runs_refuse_everything_else_and_fill_nothing() -> None:
    prepare_device(TrainConfig(deterministic=True), CPU)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory is False


def test_bfloat16_is_refused_before_ampere() -> None:
    require_precision("mixed", (8, 0), "A100")
    require_precision("float32", (7, 5), "RTX 2080 Ti")
    for precision in ("mixed", "bf16-sr"):
        with pytest.raises(ConfigError, match=r"\(RTX 2080 Ti\) does not calculate in bfloat16") as refusal:
            require_precision(precision, (7, 5), "RTX 2080 Ti")
        assert refusal.value.found == "7.5"
        assert "--precision=float32" in refusal.value.remedy


def test_linux_under_windows_is_recognised(tmp_path: Path) -> None:
    version = tmp_path / "version"
    assert not under_windows(version)
    version.write_text("Linux version 5.15.153.1-microsoft-standard-WSL2 (root@x)")
    assert under_windows(version)
    version.write_text("Linux version 6.1.0-21-amd64 (debian-kernel@lists.debian.org)")
    assert not under_windows(version)


def test_a_run_on_a_gpu_is_refused_or_told_what_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `prepare_device` does on CUDA: capability first, then a word about Windows."""
    device, told = torch.device("cuda", 0), list[str]()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr("pi05.train.device.setup.under_windows", lambda: True)
    for capability, precision, refused in (
        ((7, 5), "mixed", True),
        ((7, 5), "float32", False),
        ((8, 9), "mixed", False),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        told.clear()
        with pytest.raises(ConfigError, match="does not calculate in bfloat16") if refused else nullcontext():
            prepare_device(TrainConfig(precision=precision), device, told.append)  # type: ignore[arg-type]
        assert [line.startswith("notice: this is Linux under Windows (WSL)") for line in told] == [True] * (not refused)
    prepare_device(TrainConfig(), CPU, told.append)
    assert len(told) == 1, "a CPU spills nothing"
