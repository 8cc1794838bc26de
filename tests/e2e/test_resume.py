"""A run that is stopped in any way goes on as if it had not been: bit for bit, through the real command."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import fakes
import pytest

from pi05.checkpoint.run_folder import list_checkpoints
from pi05.cli import main
from pi05.commands.train import read_command
from pi05.errors import ConfigError, DataError
from pi05.train.loop import train

SETTINGS: dict[str, Any] = {
    "steps": 20,
    "policy__scheduler_decay_steps": 20,
    "policy__scheduler_warmup_steps": 3,
    "gradient_accumulation_steps": 2,
    "ema__enable": True,
    "save_freq": 10,
    "eval_steps": 7,
    "eval_frames": 4,
    "log_freq": 1,
}


def run(flags: list[str]) -> None:
    train(read_command(flags).config, console=False)


def assert_same_checkpoint(left: Path, right: Path) -> None:
    names = sorted(path.relative_to(left) for path in left.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(right) for path in right.rglob("*") if path.is_file())
    assert len(names) == 6
    for name in names:
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


def losses(run_dir: Path) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"]) for record in records if record["type"] == "train"]


@pytest.fixture(scope="module")
def whole(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps without a break."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(workshop.flags(folder, **SETTINGS))
    return folder


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_ten_and_ten_steps_equal_twenty(workshop: Any, whole: Path, tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "run"
    run(workshop.flags(folder, **{**SETTINGS, "steps": 10, "num_workers": workers}))
    assert [path.name for path in list_checkpoints(folder)] == ["000007", "000010"]
    run(["--resume", str(folder), "--steps=20"])
    assert_same_checkpoint(whole / "checkpoints" / "000020", folder / "checkpoints" / "000020")
    assert losses(folder) == losses(whole)
    assert [step for step, _ in losses(folder)] == list(range(1, 21))


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param({"precision": "mixed", "activation_checkpointing": "selective"}, marks=pytest.mark.slow),
        {"activation_checkpointing": "full", "flow_samples": 2, "rtc_max_delay": 4},
        {"policy__freeze_vision_encoder": True},
        {"policy__train_expert_only": True, "augment": False, "cache_prefix": True},
    ],
    ids=lambda mode: ", ".join(mode),
)
def test_every_mode_goes_on_to_the_bit(workshop: Any, tmp_path: Path, mode: dict[str, Any]) -> None:
    settings = {**SETTINGS, **mode, "policy__scheduler_decay_steps": 4, "policy__scheduler_warmup_steps": 1}
    run(workshop.flags(tmp_path / "whole", **{**settings, "steps": 4, "eval_steps": 0}))
    run(workshop.flags(tmp_path / "run", **{**settings, "steps": 2, "eval_steps": 0}))
    run(["--resume", str(tmp_path / "run"), "--steps=4"])
    last = Path("checkpoints") / "000004"
    assert_same_checkpoint(tmp_path / "whole" / last, tmp_path / "run" / last)


def test_more_steps_do_not_bend_the_learning_rate_in_silence(
    workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    run(workshop.flags(folder, steps=6, eval_steps=0))
    assert main(["train", "--resume", str(folder), "--steps=9", "--log_freq=1"]) == 0
    told = capsys.readouterr().out
    assert "changed since: steps 6 → 9" in told
    assert "keeps the schedule of the run's first start, and stays at 0.0001 from step 6 on" in told
    rates = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["learning_rate"] for r in rates if r["type"] == "train" and r["step"] > 6] == [1e-4] * 3


def test_another_configuration_is_refused_by_name(workshop: Any, whole: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        run(["--resume", str(whole), "--policy.optimizer_lr=1e-4", "--seed=7", "--num_workers=1"])
    assert "policy.optimizer_lr 0.001 → 0.0001; seed 42 → 7" in str(refusal.value)
    assert "num_workers" not in str(refusal.value)


def test_fewer_steps_than_done_are_refused(whole: Path) -> None:
    with pytest.raises(ConfigError, match="lies before what the run has done"):
        run(["--resume", str(whole), "--steps=19"])


def test_resuming_a_finished_run_changes_nothing(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole / "checkpoints").rglob("*")}
    run(["--resume", str(whole)])
    assert before == {path: path.stat().st_mtime_ns for path in (whole / "checkpoints").rglob("*")}


def test_a_folder_with_a_run_is_refused(workshop: Any, whole: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run already") as refusal:
        run(workshop.flags(whole, **SETTINGS))
    assert f"pi05 train --resume {whole}" in refusal.value.remedy


def test_other_data_are_refused(workshop: Any, whole: Path, tmp_path: Path) -> None:
    other = fakes.write_dataset(tmp_path / "other", episodes=(12, 9, 11, 8, 10, 13, 9, 12, 10, 9))
    with pytest.raises(DataError, match="not the one that the run was started with"):
        run(["--resume", str(whole), f"--dataset.root={other.root}", "--steps=21"])


def test_there_is_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration at"):
        run([f"--output_dir={tmp_path / 'nothing'}", "--resume"])


def wait_for(condition: Any, process: Any, seconds: float = 120) -> bool:
    """Wait until `condition` holds or the process has ended; return whether it came to hold."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.0005)
    raise AssertionError("nothing happened in time")


@pytest.mark.slow
def test_kill_at_any_moment_even_inside_a_save(workshop: Any, whole: Path, tmp_path: Path, start: Any) -> None:
    """Kill -9, at random and while a checkpoint is half-written, until the run is through; it equals the whole one."""
    folder = tmp_path / "run"
    flags = workshop.flags(folder, **{**SETTINGS, "save_freq": 1, "keep_checkpoints": 2})
    checkpoints = folder / "checkpoints"
    rng = random.Random(0)
    killed_in_save = killed = 0
    for attempt in range(40):
        resume = (folder / "config.json").exists()
        process = start("train", *(["--resume", str(folder)] if resume else flags))
        begun = wait_for(checkpoints.is_dir, process)
        assert begun, process.stdout.read() if process.stdout else ""
        known = {path.name for path in checkpoints.iterdir()}
        if attempt % 2 == 0 and killed_in_save < 4:
            wait_for(lambda known=known: [p for p in checkpoints.glob(".partial-*") if p.name not in known], process)
        else:
            # One save and a moment of the machine's own pace later: the run must not get through between two kills.
            wait_for(lambda known=known: {path.name for path in checkpoints.iterdir()} - known, process)
            time.sleep(rng.uniform(0.0, 0.3))
        ended = process.poll() is not None
        process.kill()
        output = process.communicate()[0]
        if ended:
            assert process.returncode == 0, output
            break
        killed += 1
        killed_in_save += bool(list(checkpoints.glob(".partial-*")))
    assert ended
    assert killed >= 3
    assert killed_in_save >= 1
    assert not list(checkpoints.glob(".*"))
    last, wanted = checkpoints / "000020", whole / "checkpoints" / "000020"
    for name in ("model.safetensors", "training_state/optimizer.safetensors", "training_state/raw.safetensors"):
        assert (last / name).read_bytes() == (wanted / name).read_bytes(), name
    assert losses(folder) == losses(whole)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_interrupted_runs_save_and_end_with_130(
    workshop: Any, tmp_path: Path, start: Any, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    process = start("train", *workshop.flags(folder, steps=2_000, log_freq=1, eval_steps=0))
    assert wait_for(lambda: len(losses(folder)) > 2 if (folder / "metrics.jsonl").exists() else False, process)
    process.send_signal(number)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130, output
    (saved,) = list_checkpoints(folder)
    assert int(saved.name) == losses(folder)[-1][0]
    assert f"Continue with: pi05 train --resume {folder}" in output
    end = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert (end["type"], end["status"]) == ("end", "interrupted")
