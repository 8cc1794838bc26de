"""Where weights come from, in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pi05.checkpoint.load import load_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.receipt import tell_origin
from pi05.train.config import TINY_BASE


def run(folder: Path, **policy: object) -> Path:
    """Return a run folder with one checkpoint and these settings."""
    checkpoint = folder / "checkpoints" / "000300"
    shutil.copytree(TINY_BASE, checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"step": 300}))
    quantize = policy.pop("quantize", "none")
    (folder / "config.json").write_text(json.dumps({"policy": policy, "peft": {"quantize": quantize}}))
    return folder


@pytest.mark.parametrize(
    ("policy", "method"),
    [
        ({}, "full"),
        ({"freeze_vision_encoder": True}, "frozen-vision"),
        ({"train_expert_only": True}, "expert"),
        ({"use_peft": True, "train_expert_only": True}, "lora"),
        ({"use_peft": True, "quantize": "nf4"}, "qlora"),
    ],
)
def test_a_run_tells_step_and_method(policy: dict[str, object], method: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", **policy)
    assert tell_origin(locate(folder)) == f"{folder} (pi05), step 300, method {method}"


def test_a_checkpoint_without_its_run(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    for text in ("", "[]", '{"policy": 1}'):
        (folder / "config.json").write_text(text)
        assert tell_origin(locate(folder)).endswith("step 300, method not told")
    (folder / "config.json").unlink()
    assert tell_origin(locate(folder)).endswith("step 300, method not told")


def test_other_programs_folders(exported: dict[str, Path]) -> None:
    assert tell_origin(locate(exported["lerobot"])) == f"{exported['lerobot']} (LeRobot), method not told"
    assert "(openpi, PyTorch)" in tell_origin(locate(exported["openpi"]))
    file = TINY_BASE / "model.safetensors"
    assert tell_origin(locate(file)) == f"{file} (a file of weights), method not told"


def test_a_loaded_model_prints_what_it_is() -> None:
    model = load_model(TINY_BASE)
    assert repr(model).splitlines() == [
        "Pi05, 1,855,072 parameters (1,855,072 with gradients), float32 on cpu, computes in float32",
        f"  weights  {TINY_BASE} (pi05), step 8,000, method not told",
        "  images   3 slots of 48 × 48 px",
        "  actions  10 steps of 32 numbers",
        "  prompt   at most 64 tokens",
    ]
