"""What `pi05 plan` prints, and which shapes it plans with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import write_dataset

from pi05 import cli
from pi05.commands.train import read_training_settings
from pi05.data.prompt import format_prompt
from pi05.model.config import tiny
from pi05.train.data import open_dataset
from pi05.train.inherit import open_tokenizer
from pi05.train.plan.shapes import plan_shapes


def test_the_command_prints_a_plan_and_a_proposal(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["plan", "--preset=tiny", "--gpu=rtx4090"]
    assert cli.main(flags) == 0
    text = capsys.readouterr().out
    assert "weights" in text
    assert "fits" in text
    assert "assumed" in text
    assert cli.main([*flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is True
    assert found["peak"] == sum(found["parts"].values())
    assert cli.main([*flags, "--gpus=2", "--gradient_accumulation_steps=4", "--global_batch_size=16"]) == 0
    assert "ddp, 4 passes of 2, at the peak" in capsys.readouterr().out
    assert cli.main(["plan", "--preset=tiny"]) == 0
    assert "b200" in capsys.readouterr().out


def test_the_command_takes_training_flags_and_needs_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["plan", "--preset=tiny", "--gpu=h100", "--json", "--batch_size=4", "--cameras=3", "--prompt_tokens=9"]
    assert cli.main([*flags, "--method=lora", "--gpus=2", "--parallel=ddp"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["method"], found["batch_per_pass"], found["cameras"], found["prompt_tokens"]) == ("lora", 4, 3, 16)
    assert (found["gpus"], found["parallel"]) == (2, "ddp")
    assert cli.main(["plan", "--gpus=0"]) == 2
    assert cli.main(["plan", "--gpu=rtx1"]) == 2


def test_shapes_come_from_the_data_set(tmp_path: Path) -> None:
    root = str(write_dataset(tmp_path / "set").root)
    config, _ = read_training_settings(
        ["--preset=tiny", f"--dataset.root={root}", "--allow=[memory]", "--batch_size=3"]
    )
    assumed = plan_shapes(config.config, tiny(), world_size=1, cameras=None, prompt_tokens=None)
    dataset = open_dataset(config.config)
    assert assumed.shapes.batch == 3
    assert assumed.shapes.cameras == len(dataset.camera_keys)
    tokenizer = open_tokenizer(config.config, tiny())
    longest = 0
    for frame in range(dataset.num_frames):
        state = np.clip(dataset.states()[frame], -0.9, 0.9)
        longest = max(longest, len(tokenizer.encode(format_prompt(dataset.task(frame), state, "state"))))
    assert longest <= assumed.shapes.prompt_tokens
    assert any("data set" in line for line in assumed.told)
