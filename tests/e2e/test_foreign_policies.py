"""Folders of LeRobot as policies and as bases, through the commands: train from one, evaluate another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fakes
import numpy as np
import pytest
from lerobot_folder import FRONT, Folder

from pi05.checkpoint.sidecar import write_sidecar
from pi05.cli import main
from pi05.model.config import ModelConfig
from pi05.policy import Policy
from pi05.train.config import TINY_BASE

LEROBOT = Path(__file__).resolve().parents[1] / "golden" / "lerobot_checkpoints" / "full"
UNTRAINED = "--allow=[base.embedding_scale, base.prompt_without_effect]"
"""The weights are small random numbers, and said to be no base."""
SIZES = ModelConfig(
    image_size=224, patch_size=14, vision_width=48, vision_depth=2, vision_mlp=96, vision_heads=4, vocab_size=1024,
    language_width=64, language_mlp=128, expert_width=32, expert_mlp=64, depth=3, num_heads=8, num_kv_heads=1,
    head_dim=16, action_dim=32, horizon=10, max_prompt_tokens=48,
)  # fmt: skip


def test_training_goes_on_from_a_lerobot_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights, tokenizer, statistics, LeRobot's resize and formula; all of it in the checkpoint."""
    shutil.copytree(LEROBOT, tmp_path / "base")
    write_sidecar(tmp_path / "base", {"model": SIZES.to_dict()})
    fakes.write_dataset(tmp_path / "set", episodes=(6, 5), state_dim=8, action_dim=7)
    words = [
        f"--dataset.root={tmp_path / 'set'}", f"--policy.path={tmp_path / 'base'}", "--stats=checkpoint",
        "--policy.tokenizer_max_length=150", "--steps=2", "--batch_size=1", "--precision=float32", "--num_workers=0",
        "--policy.scheduler_warmup_steps=1", f"--output_dir={tmp_path / 'run'}", "--threads=1",
        f"--dataset.cache_dir={tmp_path / 'cache'}", UNTRAINED,
    ]  # fmt: skip
    assert main(["train", *words]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "note: resize and normalisation: LeRobot's, as in the base (--resize)" in printed
    assert "resized as LeRobot does (lerobot-bilinear-pad)" in printed
    trained = Policy.load(tmp_path / "run").processor
    assert (trained.resize, trained.formula, trained.prompt_format) == ("lerobot-bilinear-pad", "lerobot", "state")
    base = Policy.load(tmp_path / "base").processor
    np.testing.assert_array_equal(trained.action_stats.value("q01"), base.action_stats.value("q01"))
    assert trained.tokenizer.sha256 == base.tokenizer.sha256


def test_a_run_of_lerobot_from_a_base_is_a_base_and_can_be_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What LeRobot's config.json says of the state and the cameras is its base's; both directions go by the data."""
    made = Folder(tmp_path / "base", weights=True)
    made.as_from_a_base()
    write_sidecar(made.path, {"model": SIZES.to_dict()})
    fakes.write_dataset(tmp_path / "set", episodes=(6, 5), state_dim=8, action_dim=7)
    words = [
        f"--dataset.root={tmp_path / 'set'}", f"--policy.path={made.path}", "--stats=checkpoint",
        "--policy.tokenizer_max_length=150", "--steps=2", "--batch_size=1", "--precision=float32", "--num_workers=0",
        "--policy.scheduler_warmup_steps=1", f"--output_dir={tmp_path / 'run'}", "--threads=1",
        f"--dataset.cache_dir={tmp_path / 'cache'}", UNTRAINED,
    ]  # fmt: skip
    assert main(["train", *words]) == 0
    assert Policy.load(tmp_path / "run").processor.state_dim == 8
    out = tmp_path / "out"
    assert main(["export", "--to=lerobot", str(made.path), str(out), "--rename_map={hand: drop}"]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["input_features"]["observation.state"]["shape"] == [8]
    assert [key for key in config["input_features"] if "empty_camera" not in key and "image" in key] == [FRONT]
    capsys.readouterr()
    assert main(["export", "--verify", str(out)]) == 0
    assert "not compared" not in capsys.readouterr().out


def test_a_lerobot_folder_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "lerobot"
    assert main(["export", "--to=lerobot", str(TINY_BASE), str(folder)]) == 0
    words = ["eval", "--family=base", "--episodes=1", "--films=0", "--threads=1"]
    assert main([*words, f"--policy.path={folder}", f"--output_dir={tmp_path / 'eval'}"]) == 0
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert results["success"]["trials"] == 1
    assert results["policy"]["layout"] == "LeRobot"
    assert results["policy"]["resize"] == "lerobot-bilinear-pad"
    capsys.readouterr()
    renamed = ["--rename_map", "{front: scene}", f"--output_dir={tmp_path / 'other'}"]
    assert main([*words, f"--policy.path={folder}", *renamed]) == 2
    error = capsys.readouterr().err
    assert "the policy sees other cameras than this environment has" in error
    assert "observation.images.front" in error
    assert "--rename_map" in error
    assert not (tmp_path / "other").exists()


def test_an_openpi_folder_is_evaluated(tmp_path: Path) -> None:
    """What openpi's folder does not tell is told by flags; the actions are those of the folder that it is made of."""
    folder = tmp_path / "openpi"
    assert main(["export", "--to=openpi", str(TINY_BASE), str(folder)]) == 0
    words = ["eval", "--family=base", "--episodes=2", "--films=0", "--threads=1", "--policy.n_action_steps=5"]
    flags = ["--policy.chunk_size=10", f"--policy.tokenizer_path={TINY_BASE}", "--prompt_format=state"]
    assert main([*words, *flags, f"--policy.path={folder}", f"--output_dir={tmp_path / 'theirs'}"]) == 0
    assert main([*words, f"--policy.path={TINY_BASE}", f"--output_dir={tmp_path / 'ours'}"]) == 0
    theirs, ours = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("theirs", "ours"))
    assert theirs["policy"]["layout"].startswith("openpi")
    assert theirs["episodes"] == ours["episodes"]
