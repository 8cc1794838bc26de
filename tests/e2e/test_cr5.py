"""A real recording: five episodes of a Dobot CR5, trained with the tiny preset; a shorter version of a 300-step run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pi05.cli import main


def test_the_tiny_preset_learns_from_a_real_recording(
    shared: Path, workshop: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = shared / "datasets" / "cr5_v30_5ep_onefile"
    if not data.is_dir():
        pytest.skip(f"no recording: {data} is not there")
    folder = tmp_path / "run"
    flags = workshop.flags(
        folder, policy__type="pi05", dataset__root=data, steps=40, batch_size=16, log_freq=5, eval_steps=20,
        eval_frames=24, save_freq=20, policy__scheduler_decay_steps=60,
    )  # fmt: skip
    assert main(["train", *flags]) == 0
    told = capfd.readouterr().out
    assert "observation.images.top → scene" in told
    assert "held out: episode " in told
    assert "joint_0_vel" in told

    assert main(["train", "--resume", str(folder), "--steps=60"]) == 0
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {record["step"]: record["loss"] for record in records if record["type"] == "train"}
    assert list(losses) == list(range(5, 61, 5))
    assert losses[60] < 0.5 * losses[5]
    errors = [record for record in records if record["type"] == "eval"]
    assert [record["step"] for record in errors] == [20, 40, 60]
    assert errors[-1]["action_error"] < errors[0]["action_error"]
    assert len(errors[-1]["dimensions"]) == 7
    assert all(record["baseline_error"] == errors[0]["baseline_error"] > 0 for record in errors)
