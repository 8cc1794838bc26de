"""Which torch `make setup` installs, for machines that this one is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import REPOSITORY, load_program

FILE = REPOSITORY / "scripts" / "setup_env.py"
INDEX = "https://download.pytorch.org/whl"


setup_env = load_program("scripts/setup_env.py")


@pytest.mark.parametrize(
    ("lines", "requirement", "index", "words"),
    [
        (["NVIDIA GeForce RTX 5090, 12.0, 580.65.06"], setup_env.PINNED, None, "CUDA 13.0. RTX 50-series needs"),
        (["NVIDIA GeForce RTX 5090, 12.0, 575.57.08"], setup_env.RANGE, f"{INDEX}/cu128", "CUDA 12.8. RTX 50-series"),
        (["NVIDIA H200, 9.0, 590.1"], setup_env.PINNED, None, "CUDA 13.0."),
        (["NVIDIA H200, 9.0, 570.86"], setup_env.RANGE, f"{INDEX}/cu128", "CUDA 12.8."),
        (["NVIDIA A100-SXM4-40GB, 8.0, 535.104"], setup_env.RANGE, f"{INDEX}/cu126", "CUDA 12.6."),
        (["Tesla V100-SXM2-16GB, 7.0, 590.1"], setup_env.RANGE, f"{INDEX}/cu126", "CUDA 12.6."),
        (["Tesla P100, 6.0, 590.1"], setup_env.RANGE, f"{INDEX}/cu126", "CUDA 12.6."),
        (["NVIDIA A100, 8.0, 580.1", "NVIDIA GeForce RTX 5090, 12.0, 580.1"], setup_env.PINNED, None, "RTX 50-series"),
    ],
)
def test_the_cuda_build_suits_gpu_and_driver(lines: list[str], requirement: str, index: str | None, words: str) -> None:
    gpus = [setup_env.parse_gpu(line) for line in lines]
    choice = setup_env.choose_torch(gpus, "Linux", "x86_64", {})
    assert (choice.requirement, choice.index, choice.cuda) == (requirement, index, True)
    assert words in choice.reason
    assert gpus[0].name in choice.reason


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["NVIDIA GeForce RTX 5090, 12.0, 560.1"], "needs driver 570"),
        (["NVIDIA A100, 8.0, 510.1"], "needs driver 525"),
        (["Tesla P100, 6.0, 580.1", "NVIDIA GeForce RTX 5090, 12.0, 580.1"], "no build of torch has kernels for both"),
    ],
)
def test_a_gpu_that_no_build_can_use_is_an_error(lines: list[str], words: str) -> None:
    with pytest.raises(setup_env.SetupError, match=words) as caught:
        setup_env.choose_torch([setup_env.parse_gpu(line) for line in lines], "Linux", "x86_64", {})
    assert "To do: " in str(caught.value)


def test_other_processors_take_the_cuda_build_from_its_index() -> None:
    choice = setup_env.choose_torch([setup_env.Gpu("GH200", (9, 0), "580.1")], "Linux", "aarch64", {})
    assert choice.index == f"{INDEX}/cu130"


def test_an_answer_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(setup_env.SetupError, match="PI05_TORCH=cpu"):
        setup_env.parse_gpu("NVIDIA Something, [N/A], 580.1")


@pytest.mark.parametrize(("answers", "index"), [(True, f"{INDEX}/cpu"), (False, None)])
def test_without_a_gpu_the_cpu_build_is_taken_where_it_can_be_reached(
    answers: bool, index: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(setup_env, "reachable", lambda url: asked.append(url) or answers)
    choice = setup_env.choose_torch([], "Linux", "x86_64", {})
    assert (choice.requirement, choice.index, choice.cuda) == (setup_env.PINNED, index, False)
    assert asked == [f"{INDEX}/cpu/torch/"]
    assert ("larger" in choice.reason) == (not answers)


def test_a_mirror_replaces_the_index() -> None:
    choice = setup_env.choose_torch(
        [setup_env.parse_gpu("NVIDIA H200, 9.0, 575.1")], "Linux", "x86_64", {"PI05_TORCH_INDEX": "http://mirror/whl/"}
    )
    assert choice.index == "http://mirror/whl/cu128"


def test_other_systems_take_what_pip_offers() -> None:
    assert setup_env.choose_torch([], "Darwin", "arm64", {}).index is None


def test_the_gpu_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env, "reachable", lambda _: True)
    gpu = setup_env.Gpu("NVIDIA H200", (9, 0), "590.1")
    choice = setup_env.choose_torch([gpu], "Linux", "x86_64", {"PI05_TORCH": "cpu"})
    assert (choice.index, choice.cuda) == (f"{INDEX}/cpu", False)
    with pytest.raises(setup_env.SetupError, match="PI05_TORCH=cuda is not known"):
        setup_env.choose_torch([gpu], "Linux", "x86_64", {"PI05_TORCH": "cuda"})


def test_an_index_that_does_not_answer_is_not_reachable() -> None:
    assert not setup_env.reachable("http://127.0.0.1:9/torch/")


def plan(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Return what `--plan` says with this nvidia-smi first on the PATH."""
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PI05_TORCH_INDEX": "http://127.0.0.1:9/whl",
    }
    command = [sys.executable, str(FILE), "--plan"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.process
def test_the_plan_reads_nvidia_smi(tmp_path: Path) -> None:
    answer = plan(tmp_path, 'echo "NVIDIA GeForce RTX 5090, 12.0, 575.57.08"')
    assert answer.returncode == 0
    assert "RTX 5090 (compute capability 12.0)" in answer.stdout
    assert f"pip install {setup_env.RANGE} --index-url http://127.0.0.1:9/whl/cu128" in answer.stdout


@pytest.mark.process
def test_a_driver_that_does_not_answer_means_no_gpu_and_is_said(tmp_path: Path) -> None:
    answer = plan(tmp_path, 'echo "NVIDIA-SMI has failed" >&2; exit 9')
    assert answer.returncode == 0
    assert "nvidia-smi failed, so no GPU is used: NVIDIA-SMI has failed" in answer.stdout
    assert "no NVIDIA GPU found" in answer.stdout


@pytest.mark.process
def test_an_old_driver_ends_with_2_and_a_remedy(tmp_path: Path) -> None:
    answer = plan(tmp_path, 'echo "NVIDIA GeForce RTX 5090, 12.0, 560.1"')
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: ")
    assert "To do: update the driver." in answer.stderr


def test_nothing_is_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(setup_env, "VENV", tmp_path)
    monkeypatch.setattr(setup_env, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(setup_env, "read_gpus", list)
    monkeypatch.setattr(setup_env, "reachable", lambda _: True)
    monkeypatch.setattr(setup_env, "make_venv", lambda: calls.append("venv"))
    monkeypatch.setattr(setup_env, "pip", lambda *words: calls.append(" ".join(words)))
    monkeypatch.setattr(setup_env, "examine", lambda: calls.append("doctor"))
    assert setup_env.main([]) == setup_env.main([]) == 0
    constraints = tmp_path / "constraints-without-torch.txt"
    assert calls == [
        "venv",
        f"--quiet {setup_env.PINNED} --index-url {INDEX}/cpu",
        f"--quiet --constraint {constraints} --editable .[dev]",
        "doctor",
    ]
    assert "torch==" not in constraints.read_text()
    assert "numpy==" in constraints.read_text()
    monkeypatch.setenv("PI05_TORCH_INDEX", "http://mirror")
    assert setup_env.main([]) == 0
    assert len(calls) == 8
    assert "no NVIDIA GPU found" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.parametrize("script", ["echo $*; exit 1", None])
def test_what_the_doctor_finds_does_not_fail_the_set_up(
    script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    if script is not None:
        (tmp_path / "bin" / "pi05").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / "pi05").chmod(0o755)
    monkeypatch.setattr(setup_env, "VENV", tmp_path)
    setup_env.examine()
    assert capfd.readouterr().out.startswith("pi05 doctor could not be started" if script is None else "doctor --short")


def test_every_dependency_is_pinned() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    pinned = {line.split("==")[0] for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line}
    wanted = {
        line.split(">=")[0].strip(' "') for line in text.splitlines() if line.startswith('    "') and ">=" in line
    }
    assert len(wanted) > 12
    assert not wanted - pinned
