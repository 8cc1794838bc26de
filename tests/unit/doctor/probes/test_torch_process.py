"""The child's answer as facts; and the real child, with a torch that cannot be imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi05.child import ChildAnswer
from pi05.doctor.facts import Device, Torch
from pi05.doctor.probes.torch_process import probe_torch

RESULT = {
    "version": "2.13.0+cu130",
    "cuda": "13.0",
    "kernels": True,
    "architectures": ["sm_90"],
    "devices": [{"name": "H200", "capability": [9, 0], "fault": None}],
    "without_peer": [[0, 1]],
    "nccl": "2.28.9",
}


def test_an_answer_becomes_facts() -> None:
    asked: list[tuple[str, ...]] = []

    def ask(*words: str, seconds: float) -> ChildAnswer:
        asked.append(words)
        return ChildAnswer(RESULT)

    assert probe_torch(kernels=False, ask=ask) == Torch(
        version="2.13.0+cu130",
        cuda="13.0",
        architectures=("sm_90",),
        devices=(Device(name="H200", capability=(9, 0)),),
        nccl="2.28.9",
        without_peer=((0, 1),),
        kernels=False,
    )
    assert asked == [("pi05.doctor.probes.torch_child", "--without-kernels")]


def test_a_child_without_an_answer() -> None:
    assert probe_torch(ask=lambda *_, **__: ChildAnswer(None, fault="killed by SIGSEGV")) == Torch(
        fault="killed by SIGSEGV"
    )
    assert probe_torch(ask=lambda *_, **__: ChildAnswer(None, hangs_at="a kernel")) == Torch(hangs_at="a kernel")


@pytest.mark.process
def test_a_torch_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), str(Path(__file__).parents[4] / "src")]))
    assert probe_torch() == Torch(fault="ImportError: libcudart.so.13: cannot open shared object file")
