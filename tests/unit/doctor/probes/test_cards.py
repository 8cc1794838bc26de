"""nvidia-smi's answers, and the PCI bus of made-up machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pi05.doctor.facts import Cards
from pi05.doctor.probes.cards import probe_cards, run_smi
from pi05.doctor.torch_builds import Gpu


def test_the_gpus_that_nvidia_smi_lists(tmp_path: Path) -> None:
    cards = probe_cards(run=lambda: (0, "NVIDIA H200, 9.0, 580.65.06\n" * 2), environment={}, bus=tmp_path)
    assert cards == Cards(gpus=(Gpu("NVIDIA H200", (9, 0), "580.65.06"),) * 2)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((9, "NVIDIA-SMI has failed\nbecause"), "NVIDIA-SMI has failed because"),
        ((0, "NVIDIA H200, [N/A], 580"), "NVIDIA H200, [N/A], 580"),
        ((0, ""), "exit code 0"),
        ((9, ""), "exit code 9"),
    ],
)
def test_what_nvidia_smi_says_where_it_fails(answer: tuple[int, str], said: str, tmp_path: Path) -> None:
    assert probe_cards(run=lambda: answer, environment={}, bus=tmp_path) == Cards(smi=said)


def test_gpus_on_the_bus_without_a_driver(tmp_path: Path) -> None:
    for name, vendor, kind in (("a", "0x10de", "0x030000"), ("b", "0x10de", "0x040300"), ("c", "0x1002", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    (tmp_path / "without files").mkdir()
    cards = probe_cards(run=lambda: None, environment={"CUDA_VISIBLE_DEVICES": "1"}, bus=tmp_path)
    assert cards == Cards(on_bus=1, visible="1")


@pytest.mark.process
def test_nvidia_smi_itself_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_smi() is None
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho card $1; echo told >&2; exit 3\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert run_smi() == (3, "card --query-gpu=name,compute_cap,driver_version\ntold\n")
