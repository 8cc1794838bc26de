"""What `pi05 inspect` tells of each layout, and that it loads no weights and guesses nothing."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from pi05.checkpoint.inspection import inspect_checkpoint
from pi05.checkpoint.load import read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.receipt import Receipt
from pi05.commands.inspect import print_tables
from pi05.errors import UserError
from pi05.export.export import export_policy
from pi05.train.config import TINY_BASE

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
JAX = GOLDEN / "openpi" / "ckpt" / "ema" / "6"
LORA = GOLDEN / "lerobot_checkpoints" / "lora"


def silent(line: str) -> None:
    """Swallow a line."""


def shown(facts: dict[str, Any]) -> str:
    output = io.StringIO()
    print_tables(facts, Console(file=output, width=300))
    return output.getvalue()


def test_our_own_folder() -> None:
    facts = inspect_checkpoint(TINY_BASE)
    receipt: Receipt = read_model(locate(TINY_BASE))[1]
    assert (facts["layout"], facts["step"], facts["parameters"]) == ("pi05", 8000, receipt.parameters)
    assert facts["sha256"] == receipt.sha256
    assert facts["files"]["model.safetensors"]["bytes"] == receipt.bytes
    assert facts["precision"] == {"F32": 147}
    policy = facts["policy"]
    assert policy["cameras"] == {
        "scene": "observation.images.scene",
        "left_wrist": "observation.images.wrist",
        "right_wrist": None,
    }
    assert policy["action"] == {
        "dimensions": 3,
        "names": ["x_m", "y_m", "opening"],
        "columns": [],
        "representation": "absolute",
        "relative": None,
    }
    assert (policy["fps"], policy["horizon"], policy["prompt_format"], policy["formula"]) == (10, 10, "state", "openpi")
    assert set(facts["unknown"]) == {"actions to execute at once"}
    text = shown(facts)
    for part in (
        "right_wrist ← (empty, masked)",
        "10 actions (1.0 s at 10 Hz)",
        "QUANTILES",
        receipt.sha256,
        "not told",
    ):
        assert part in text


def test_an_exported_folder_tells_its_origin(tmp_path: Path) -> None:
    out = export_policy(locate(TINY_BASE), tmp_path / "out", to="lerobot", dtype="bfloat16", say=silent).folder
    facts = inspect_checkpoint(out)
    assert facts["layout"] == "LeRobot"
    assert set(facts["precision"]) == {"F32", "BF16"}
    assert facts["export"]["source"]["path"] == str(TINY_BASE)
    assert facts["policy"]["n_action_steps"] == 5
    assert facts["sizes"]["num_heads"] == 4
    assert "moved normalised actions by" in shown(facts)
    assert inspect_checkpoint(out, hash_files=False)["sha256"] is None


def test_a_jax_folder_says_what_openpi_keeps_in_its_code() -> None:
    facts = inspect_checkpoint(JAX)
    assert facts["layout"] == "openpi JAX"
    assert facts["sizes"]["depth"] == 3
    assert facts["statistics"] == {"physical-intelligence/libero": {"state": 8, "actions": 7}}
    assert facts["policy"] is None
    assert "state" in facts["unknown"]["policy"]
    assert "physical-intelligence/libero: state 8, actions 7" in shown(facts)


def test_an_adapter_names_its_base_and_what_it_changes() -> None:
    facts = inspect_checkpoint(LORA)
    assert facts["layout"] == "LeRobot adapter"
    assert (facts["adapter"]["r"], facts["tensors"]) == (4, 16)
    assert facts["base"]["path"] == str(LORA.parent / "full")
    assert "would not be noticed" in facts["unknown"]["hash of the base"]
    assert "vision_heads" in facts["unknown"]["sizes"]


def test_an_adapter_without_its_base(tmp_path: Path) -> None:
    lonely = Path(shutil.copytree(LORA, tmp_path / "lora"))
    facts = inspect_checkpoint(lonely)
    assert facts["base"] is None
    assert "base of the adapter is not there" in facts["unknown"]["base"]


def test_a_weight_file_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "params.npz", **{"PaliGemma/img/head/bias": np.zeros(3, np.float32)})
    facts = inspect_checkpoint(tmp_path / "params.npz")
    assert (facts["layout"], facts["precision"], facts["policy"]) == ("weight file", None, None)
    assert "sizes" in facts["unknown"]


def test_weights_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi05.checkpoint.tensors.TensorFiles.read", lambda *_: pytest.fail("a tensor was read"))
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *_: pytest.fail("a network was filled"))
    inspect_checkpoint(TINY_BASE, hash_files=False)


@pytest.mark.parametrize("content", [{}, {"notes.txt": "hello"}, {"model.safetensors": "hello"}])
def test_what_is_no_checkpoint_is_an_error(tmp_path: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError):
        inspect_checkpoint(tmp_path)
