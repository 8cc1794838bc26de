"""QLoRA through the real command: a base in 4 or 8 bits is learnt on, continued exactly, evaluated and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_runs import RUN, SAME_PRODUCT, actions, flags, learn, losses, run
from safetensors.torch import load_file

from pi05.checkpoint.load import read_model
from pi05.checkpoint.locate import locate
from pi05.cli import main
from pi05.commands.train import read_command
from pi05.errors import CheckpointError, ConfigError
from pi05.export.export import export_policy
from pi05.export.probe import ask, compare, make_probe
from pi05.export.source import open_source
from pi05.export.verify import FLOAT32_LIMIT
from pi05.model.lora import add_lora, load_lora_state, lora_modules, lora_state
from pi05.model.quantize import quantize_frozen, quantized_weights
from pi05.policy import Policy
from pi05.train.config import TINY_BASE


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return learn(tmp_path_factory.mktemp("learnt"), "--method=qlora")


@pytest.fixture(scope="module")
def probed(learnt: tuple[Path, str]) -> Policy:
    return open_source(locate(learnt[0]), merge=False).policy


def test_a_base_in_four_bits_is_learnt_on(learnt: tuple[Path, str]) -> None:
    folder, told = learnt
    assert losses(folder)[-1] < 0.8 * losses(folder)[0]
    assert "frozen matrices in nf4" in told
    config = json.loads((folder / "checkpoints" / "last" / "config.json").read_text())
    assert (config["adapter"], config["frozen_precision"]) == (True, "nf4")


def test_parameters_in_codes_are_counted_as_what_they_stand_for(learnt: tuple[Path, str]) -> None:
    full = sum(value.numel() for value in read_model(locate(TINY_BASE))[0].parameters())
    adapters = sum(value.numel() for value in lora_state(read_model(locate(learnt[0]), merge=False)[0]).values())
    (row,) = (line for line in learnt[1].splitlines() if line.strip("│ ").startswith("all "))
    counts = [int(word.replace(",", "")) for word in row.split() if word.replace(",", "").isdigit()]
    assert sum(counts) == full + adapters


@pytest.mark.parametrize("kind", ["nf4", pytest.param("int8", marks=pytest.mark.slow)])
def test_a_broken_run_equals_a_whole_one(workshop: Any, tmp_path: Path, kind: str) -> None:
    settings = {**RUN, "method": "qlora", "peft__quantize": kind}
    run(flags(workshop, tmp_path / "whole", TINY_BASE, **settings))
    run(flags(workshop, tmp_path / "broken", TINY_BASE, **{**settings, "steps": 4}))
    run(["--resume", str(tmp_path / "broken"), "--steps=8"])
    left, right = (files(tmp_path / name / "checkpoints" / "000008") for name in ("whole", "broken"))
    assert left == right
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


def test_the_policy_is_the_network_that_was_trained(learnt: tuple[Path, str]) -> None:
    """With codes under the adapters, as in training and its measurements; and as `Policy.load` has it, merged."""
    apart = read_model(locate(learnt[0]), merge=False)[0]
    trained = read_model(locate(TINY_BASE))[0]
    held = {name: value for name, value in apart.named_parameters() if name.startswith(("action_", "time_"))}
    with torch.no_grad():
        for name, value in held.items():
            trained.get_parameter(name).copy_(value)
    specs = {name: module.spec for name, module in lora_modules(apart).items()}
    add_lora(trained, specs)
    load_lora_state(trained, lora_state(apart))
    quantize_frozen(trained, "nf4", tuple(held))
    assert quantized_weights(trained).keys() >= specs.keys()
    assert torch.equal(actions(trained), actions(apart))
    policy = Policy.load(learnt[0])
    torch.testing.assert_close(actions(policy.model), actions(trained), atol=SAME_PRODUCT, rtol=0)


def test_pi05_eval_takes_the_run(learnt: tuple[Path, str], tmp_path: Path) -> None:
    words = [f"--policy.path={learnt[0]}", "--env=tabletop", "--episodes=2", f"--output_dir={tmp_path / 'eval'}"]
    assert main(["eval", *words]) == 0


@pytest.mark.parametrize("layout", ["lerobot", "pi05"])
def test_what_is_exported_has_the_base_that_was_trained_on(
    learnt: tuple[Path, str], probed: Policy, tmp_path: Path, layout: Any
) -> None:
    result = export_policy(locate(learnt[0]), tmp_path / "out", to=layout, say=lambda _: None)
    assert result.merge is not None
    probe = make_probe(probed.processor)
    moved = compare(ask(open_source(locate(tmp_path / "out")).policy, probe), ask(probed, probe), probed.processor)
    assert moved.normalized < FLOAT32_LIMIT


def test_on_the_original_weights_it_is_another_policy(learnt: tuple[Path, str], probed: Policy, tmp_path: Path) -> None:
    """So LeRobot, which knows nothing of the codes, is not given the adapter alone; our own folder tells of them."""
    with pytest.raises(CheckpointError, match="quantised base"):
        export_policy(locate(learnt[0]), tmp_path / "lerobot", to="lerobot", adapter_only=True, say=lambda _: None)
    assert not (tmp_path / "lerobot").exists()
    result = export_policy(locate(learnt[0]), tmp_path / "own", to="pi05", adapter_only=True, say=lambda _: None)
    config = result.folder / "config.json"
    values = json.loads(config.read_text())
    assert values["frozen_precision"] == "nf4"
    probe = make_probe(probed.processor)
    config.write_text(json.dumps({**values, "frozen_precision": "float32"}))
    other = compare(ask(open_source(locate(result.folder)).policy, probe), ask(probed, probe), probed.processor)
    assert other.normalized > 10 * FLOAT32_LIMIT
    config.write_text(json.dumps({**values, "frozen_precision": "fp3"}))
    with pytest.raises(CheckpointError, match="unknown precision"):
        read_model(locate(result.folder))


def test_a_run_on_codes_is_the_base_of_another(workshop: Any, learnt: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    rate = 1e-9  # so small that the first step leaves the start to be seen
    settings = {"steps": 1, "eval_steps": 0, "policy__optimizer_lr": rate, "method": "qlora", "peft__r": 4}
    run(flags(workshop, folder, learnt[0], policy__chunk_size=8, **settings))
    kept, merged = load_file(folder / "base" / "model.safetensors"), read_model(locate(learnt[0]))[0]
    assert all(torch.equal(value, kept[name]) for name, value in merged.named_parameters())
    run(["--resume", str(folder), "--steps=2"])


def test_contradictions_are_refused(workshop: Any, learnt: tuple[Path, str]) -> None:
    with pytest.raises(ConfigError, match="quantised base"):
        read_command(["--method=qlora", "--peft.use_dora"])
    with pytest.raises(ConfigError, match="contradict"):
        read_command(["--method=qlora", "--peft.quantize=none"])
    with pytest.raises(ConfigError, match=r"peft\.quantize nf4 → int8"):
        run(["--resume", str(learnt[0]), "--peft.quantize=int8"])
