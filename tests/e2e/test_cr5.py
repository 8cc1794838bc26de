"""A real recording: five episodes of a Dobot CR5, trained with the tiny preset; a shorter version of a 300-step run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pi05.cli import main


@pytest.mark.slow
def test_the_tiny_preset_learns_from_a_real_recording(
    shared: Path, workshop: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = shared / "datasets" / "cr5_v30_5ep_onefile"
    if not data.is_dir():
        pytest.skip(f"no recording: {data} is not there")
    folder = tmp_path / "run"
    flags = [
        "--policy.type=pi05",
        "--preset=tiny",
        f"--dataset.root={data}",
        f"--dataset.cache_dir={workshop.cache}",
        f"--output_dir={folder}",
        *("--steps=60", "--policy.scheduler_decay_steps=100", "--batch_size=32", "--threads=1"),
        *("--log_freq=5", "--eval_steps=20", "--eval_frames=24", "--save_freq=20"),
    ]
    assert main(["train", *flags]) == 0
    told = capfd.readouterr().out
    assert "observation.images.top → scene" in told
    assert "held out: episode " in told
    assert "joint_0_vel" in told

    assert main(["train", "--resume", str(folder), "--steps=100"]) == 0
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {record["step"]: record["loss"] for record in records if record["type"] == "train"}
    assert list(losses) == list(range(5, 101, 5))
    assert losses[100] < 0.8 * losses[5]
    errors = [record for record in records if record["type"] == "eval"]
    assert [record["step"] for record in errors] == [20, 40, 60, 80, 100]
    assert len(errors[-1]["dimensions"]) == 7
    assert all(record["baseline_error"] == errors[0]["baseline_error"] > 0 for record in errors)
    assert min(record["action_error"] for record in errors) < errors[0]["baseline_error"]
