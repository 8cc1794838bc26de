"""`pi05 plan` as a command: what it prints, what it needs."""

from __future__ import annotations

import json

import pytest

from pi05 import cli


def test_the_command_prints_a_plan_and_a_proposal(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["plan", "--preset=tiny", "--gpu=rtx4090"]
    assert cli.main(flags) == 0
    text = capsys.readouterr().out
    assert "weights" in text
    assert "of the 1,723,744 parameters that are trained" in " ".join(text.split())
    assert "attention: the kernels are PyTorch's choice" in " ".join(text.split()), "in float32 no rule is known"
    assert "fits" in text
    assert "assumed" in text
    assert cli.main([*flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is True
    assert found["trained_parameters"] == 1_723_744
    assert found["peak"] == sum(found["parts"].values())
    assert cli.main([*flags, "--gpus=2", "--gradient_accumulation_steps=4", "--global_batch_size=16"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "ddp, 4 passes of 2, at the peak" in text
    assert "ddp keeps room for all gradients from the first step to the last: counted" in text
    assert "GB exchanged by each GPU in a step" in text
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
