"""LoRA through the real command: first run from plain weights, files, exact resume, evaluation, a run as the base."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_runs import RUN, SAME_PRODUCT, actions, flags, learn, losses, run
from lerobot_tree import load_with_peft
from safetensors.torch import load_file, save_file

from pi05.checkpoint.load import read_config, read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.run_folder import list_checkpoints
from pi05.cli import main
from pi05.errors import CheckpointError, ConfigError
from pi05.policy import Policy
from pi05.train.config import TINY_BASE

SETTINGS: dict[str, Any] = {**RUN, "method": "lora", "peft__lora_dropout": 0.1}
FILES = {
    *("config.json", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"),
    *("training_state/optimizer.safetensors", "training_state/raw.safetensors", "training_state/state.json"),
}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def copy_base(target: Path) -> Path:
    shutil.copytree(TINY_BASE, target)
    return target


@pytest.fixture(scope="module")
def whole(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a break."""
    folder = tmp_path_factory.mktemp("whole")
    run(flags(workshop, folder / "run", TINY_BASE, **SETTINGS))
    return folder / "run"


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A first run in LeRobot's words from plain weights."""
    words = (
        "--policy.use_peft=true",
        "--peft.method_type=LORA",
        "--peft.r=16",
        "--peft.target_modules=[q_proj,v_proj]",
    )
    return learn(tmp_path_factory.mktemp("learnt"), *words)


def test_a_first_run_in_lerobots_words_learns(learnt: tuple[Path, str]) -> None:
    folder, told = learnt
    assert losses(folder)[-1] < 0.8 * losses(folder)[0]
    assert "LoRA: rank 16, alpha 16, scaling 1" in told
    (row, _) = (line for line in told.splitlines() if "vision tower" in line)
    assert "query, value" in row
    assert "--policy.optimizer_lr=0.003" in told  # ten times that of the preset
    assert re.search(r"base: 1 file, 7\.4 MB, (linked|copied) into", told)


def test_a_checkpoint_holds_what_was_trained_and_no_more(learnt: tuple[Path, str]) -> None:
    last = learnt[0] / "checkpoints" / "000040"
    assert files(last) == FILES - {"training_state/raw.safetensors"}
    assert files(learnt[0] / "base") == {"config.json", "model.safetensors"}
    config = json.loads((last / "config.json").read_text())
    assert (config["adapter"], config["frozen_precision"]) == (True, "float32")
    assert config["base"]["path"] == "../../base"
    moved = {name.partition("/")[2] for name in load_file(last / "training_state" / "optimizer.safetensors")}
    assert all(name.endswith(("lora_a", "lora_b")) or name.startswith(("action_", "time_")) for name in moved)
    base, trained = read_model(locate(TINY_BASE))[0], read_model(locate(last))[0]
    changed = {name for name, value in trained.named_parameters() if not torch.equal(value, base.get_parameter(name))}
    assert changed == {name.replace("lora_a", "weight").replace("lora_b", "weight") for name in moved}


def test_pi05_eval_takes_the_run(learnt: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"--policy.path={learnt[0]}", "--env=tabletop", "--episodes=2", f"--output_dir={tmp_path / 'eval'}"]
    assert main(["eval", *words]) == 0
    assert "success" in capsys.readouterr().out
    assert json.loads((tmp_path / "eval" / "results.json").read_text())["success"]["trials"] == 2


def test_pi05_report_counts_adapters(learnt: tuple[Path, str]) -> None:
    assert main(["report", str(learnt[0])]) == 0
    page = (learnt[0] / "report.html").read_text(encoding="utf-8")
    assert "24,576" in page  # query and value of three vision blocks, rank 16
    assert "parameters:" not in page.partition("Not in this report")[2]


def test_a_broken_run_equals_a_whole_one(workshop: Any, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(flags(workshop, folder, TINY_BASE, **{**SETTINGS, "steps": 4, "num_workers": 2}))
    run(["--resume", str(folder), "--steps=8"])
    left, right = whole / "checkpoints" / "000008", folder / "checkpoints" / "000008"
    assert files(left) == files(right) == FILES
    for name in FILES:
        assert (left / name).read_bytes() == (right / name).read_bytes(), name
    assert losses(folder) == losses(whole)


def test_the_average_is_what_is_saved_and_raw_weights_lie_beside_it(whole: Path) -> None:
    folder = whole / "checkpoints" / "000008"
    raw = load_file(folder / "training_state" / "raw.safetensors")
    name = "action_in.bias"
    assert raw[name].shape == read_model(locate(folder))[0].get_parameter(name).shape
    assert not torch.equal(raw[name], read_model(locate(folder))[0].get_parameter(name))


def test_the_run_folder_is_all_one_needs(workshop: Any, tmp_path: Path) -> None:
    """Moved, and the base gone from where it was: it loads, evaluates, and goes on."""
    base = copy_base(tmp_path / "base")
    first = tmp_path / "first" / "run"
    run(flags(workshop, first, base, **{**SETTINGS, "steps": 4}))
    before = actions(read_model(locate(first))[0])
    (tmp_path / "first").rename(tmp_path / "second")
    moved = tmp_path / "second" / "run"
    shutil.rmtree(base)
    assert torch.equal(actions(read_model(locate(moved))[0]), before)
    # a policy's network is set up to infer, where the last bits differ
    torch.testing.assert_close(actions(Policy.load(moved).model), before, atol=SAME_PRODUCT, rtol=0)
    assert json.loads((moved / "receipt.json").read_text())["source"] == str(base)
    run(["--resume", str(moved), "--steps=6"])
    assert [path.name for path in list_checkpoints(moved)] == ["000003", "000004", "000006"]


def test_a_base_that_changed_or_went_is_refused(workshop: Any, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    weights = folder / "base" / "model.safetensors"
    tensors = load_file(weights)
    weights.unlink()  # a link: the packaged base must not change
    with pytest.raises(CheckpointError):
        run(["--resume", str(folder), "--steps=9"])
    tensors["language.norm.scale"][0] += 1e-3
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match="have changed"):
        run(["--resume", str(folder), "--steps=9"])
    with pytest.raises(CheckpointError):
        read_model(locate(folder))
    shutil.rmtree(folder / "base")
    with pytest.raises(CheckpointError, match="not there"):
        run(["--resume", str(folder), "--steps=9"])


def test_another_rank_is_refused_by_name(whole: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        run(["--resume", str(whole), "--peft.r=8"])
    assert "peft.r 4 → 8" in str(refusal.value)
    with pytest.raises(ConfigError, match=r"contradict|other settings"):
        run(["--resume", str(whole), "--method=full"])


def test_the_real_peft_library_reads_the_checkpoint(whole: Path) -> None:
    folder = whole / "checkpoints" / "000008"
    theirs = read_model(locate(whole / "base"))[0]
    tree = load_with_peft(theirs, folder).eval()
    full = tree.base_model.model.get_submodule("model.action_in_proj").modules_to_save["default"]
    apart, merged = read_model(locate(folder), merge=False)[0], read_model(locate(folder))[0]
    assert torch.equal(full.weight, apart.action_in.weight)
    torch.testing.assert_close(actions(apart), actions(merged), atol=SAME_PRODUCT, rtol=0)
    torch.testing.assert_close(actions(theirs), actions(apart), atol=SAME_PRODUCT, rtol=0)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_lora_run_is_the_base_of_another_run(workshop: Any, whole: Path, tmp_path: Path, method: str) -> None:
    """It starts from base and adapter merged; a LoRA run keeps the merged weights."""
    adapter = tmp_path / "adapter"
    shutil.copytree(whole, adapter, symlinks=True)
    merged = read_model(locate(adapter))[0]
    folder = tmp_path / "run"
    peft = {"method": method, "peft__r": 4} if method == "lora" else {"method": method}
    rate = 1e-9  # so small that the first step leaves the start to be seen
    run(flags(workshop, folder, adapter, steps=1, eval_steps=0, policy__optimizer_lr=rate, **peft))
    receipt = json.loads((folder / "receipt.json").read_text())
    assert receipt["adapter"]["source"].endswith("000008")
    assert "merged" in receipt["adapter"]["merge"]
    shutil.rmtree(adapter)
    found = Policy.load(folder).model
    for name, value in merged.named_parameters():
        torch.testing.assert_close(found.get_parameter(name), value, atol=1e-7, rtol=0)
    if method == "lora":
        kept = read_model(locate(folder / "base"))[0]
        assert all(torch.equal(value, kept.get_parameter(name)) for name, value in merged.named_parameters())
        run(["--resume", str(folder), "--steps=2"])


def test_chunk_and_prompt_length_may_differ_from_the_base(workshop: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = {**SETTINGS, "steps": 1, "policy__chunk_size": 4, "policy__scheduler_warmup_steps": 0}
    run(flags(workshop, folder, TINY_BASE, **settings))
    assert read_config(locate(folder)).horizon == Policy.load(folder).model.config.horizon == 4
    run(["--resume", str(folder), "--steps=2"])


@pytest.mark.slow
def test_kill_inside_a_save(workshop: Any, whole: Path, tmp_path: Path, start: Any) -> None:
    """Kill -9 while the base is placed, while a checkpoint is half-written, and in between."""
    folder = tmp_path / "run"
    words = flags(workshop, folder, TINY_BASE, **{**SETTINGS, "save_freq": 1})
    checkpoints = folder / "checkpoints"
    rng = random.Random(0)
    for attempt in range(40):
        resume = (folder / "config.json").exists()
        process = start("train", *(["--resume", str(folder)] if resume else words))
        limit = time.monotonic() + rng.uniform(0, 1.5) + 120
        known = set(checkpoints.iterdir()) if checkpoints.is_dir() else set()
        partial = attempt % 2 == 0
        while process.poll() is None and time.monotonic() < limit:
            now = set(checkpoints.iterdir()) if checkpoints.is_dir() else set()
            fresh = now - known
            if (attempt == 0 and (folder / "config.json").exists()) or (
                [path for path in fresh if path.name.startswith(".partial-") == partial]
            ):
                break
            time.sleep(0.0005)
        ended = process.poll() is not None
        process.kill()
        output = process.communicate()[0]
        if ended:
            assert process.returncode == 0, output
            break
    assert ended
    assert attempt >= 3
    last, wanted = checkpoints / "000008", whole / "checkpoints" / "000008"
    for name in ("adapter_model.safetensors", "training_state/optimizer.safetensors", "training_state/raw.safetensors"):
        assert (last / name).read_bytes() == (wanted / name).read_bytes(), name
    assert losses(folder) == losses(whole)
