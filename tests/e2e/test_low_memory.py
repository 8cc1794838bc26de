"""Modes that save memory through the real command: exact resume, what the checkpoint holds, that a policy loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pi05 import Policy
from pi05.checkpoint.run_folder import list_checkpoints
from pi05.commands.train import read_command
from pi05.errors import ConfigError
from pi05.train.loop import train

SETTINGS: dict[str, Any] = {
    "steps": 20,
    "policy__scheduler_decay_steps": 20,
    "policy__scheduler_warmup_steps": 3,
    "save_freq": 10,
    "eval_steps": 0,
    "log_freq": 1,
}
MODES: dict[str, dict[str, Any]] = {
    "bf16-sr": {"precision": "bf16-sr", "gradient_accumulation_steps": 2, "ema__enable": True},
    "bf16-sr-8bit-release": {"precision": "bf16-sr", "optimizer_state": "8bit", "gradient_release": True},
    "mixed-4bit-recomputed": {"precision": "mixed", "optimizer_state": "4bit", "policy__gradient_checkpointing": True},
    "float32-release": {"precision": "float32", "gradient_release": True},
}
FILES = ("model.safetensors", "training_state/optimizer.safetensors", "training_state/state.json")


def run(flags: list[str]) -> None:
    train(read_command(flags).config, console=False)


def records(folder: Path) -> list[tuple[int, float, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["grad_norm"]) for line in lines if line["type"] == "train"]


@pytest.fixture(scope="module", params=list(MODES))
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {**SETTINGS, **MODES[request.param]}


@pytest.fixture(scope="module")
def whole(workshop: Any, mode: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(workshop.flags(folder, **mode))
    return folder


@pytest.mark.slow
def test_ten_and_ten_steps_equal_twenty(workshop: Any, mode: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(workshop.flags(folder, **{**mode, "steps": 10}))
    torch.manual_seed(1234)  # the global generator plays no part
    run(["--resume", str(folder), "--steps=20"])
    for name in FILES:
        ours, theirs = (path / "checkpoints" / "000020" / name for path in (folder, whole))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert records(folder) == records(whole)
    assert [step for step, _, _ in records(folder)] == list(range(1, 21))


@pytest.mark.slow
def test_the_checkpoint_holds_the_weights_as_they_are(mode: dict[str, Any], whole: Path) -> None:
    folder = list_checkpoints(whole)[-1]
    raw = folder / "training_state" / "raw.safetensors"
    weights = load_file(raw if raw.exists() else folder / "model.safetensors")
    kinds = {name: value.dtype for name, value in weights.items()}
    narrow = {name for name, kind in kinds.items() if kind == torch.bfloat16}
    if mode["precision"] != "bf16-sr":
        assert not narrow
        return
    assert {"embedding.weight", "language.layers.0.mlp.up.weight", "vision.head.weight"} <= narrow
    wide = set(kinds) - narrow
    assert {"action_in.weight", "time_out.weight", "vision.patch_embedding.weight", "vision.head.bias"} <= wide
    assert all(weights[name].ndim > 1 for name in narrow)
    if raw.exists():
        averaged = load_file(folder / "model.safetensors")
        trained = Policy.load(whole).model.is_read  # what nothing reads has no average
        assert {value.dtype for name, value in averaged.items() if trained(name)} == {torch.float32}


@pytest.mark.slow
def test_a_policy_is_loaded_from_it(whole: Path) -> None:
    model = Policy.load(whole).model
    stored = load_file(list_checkpoints(whole)[-1] / "model.safetensors")
    for name, value in model.named_parameters():
        assert torch.equal(value.detach(), stored[name].to(value.dtype)), name


@pytest.mark.slow
def test_the_loss_falls(whole: Path) -> None:
    losses = [loss for _, loss, _ in records(whole)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.slow
def test_another_mode_on_resume_is_refused(whole: Path, mode: dict[str, Any]) -> None:
    other = "8bit" if mode.get("optimizer_state") != "8bit" else "float32"
    with pytest.raises(ConfigError, match=f"optimizer_state .* → {other}"):
        run(["--resume", str(whole), f"--optimizer_state={other}", "--steps=21"])


@pytest.mark.parametrize(
    "flags", [["--optimizer_offload"], ["--activation_offload", "--activation_checkpointing=full"]]
)
def test_what_waits_in_host_memory_needs_a_gpu(workshop: Any, tmp_path: Path, flags: list[str]) -> None:
    with pytest.raises(ConfigError, match="nothing to do on the CPU"):
        run([*workshop.flags(tmp_path / "run", policy__device="cpu"), *flags])
    assert not (tmp_path / "run").exists()
