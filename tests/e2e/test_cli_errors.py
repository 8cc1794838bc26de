"""What a user can get wrong, typed as a user would: exit code 2, the problem and the remedy, no traceback."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import pytest
import torch

from pi05.cli import main

Break = Callable[[Path], Any]


def complaint(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail, check the form of its message, and return it."""
    capsys.readouterr()
    assert main(words) == 2
    message = capsys.readouterr().err.split("error: ", 1)[1]
    assert "Traceback" not in message
    assert "\n  to do:  " in message
    return message


def delete(pattern: str) -> Break:
    return lambda root: next(iter(sorted(root.glob(pattern)))).unlink()


def cut(pattern: str) -> Break:
    def halve(root: Path) -> None:
        file = next(iter(sorted(root.glob(pattern))))
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return halve


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (delete("meta/info.json"), ["info.json"]),
        (cut("data/**/*.parquet"), ["file-000.parquet"]),
        (delete("videos/**/*.mp4"), ["file-000.mp4"]),
    ],
)
def test_a_broken_data_set(
    damage: Break, words: list[str], workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of each kind; every fault of a data set is in `unit/data/lerobot`."""
    shutil.copytree(workshop.dataset, tmp_path / "data")
    damage(tmp_path / "data")
    flags = workshop.flags(tmp_path / "run", dataset__root=tmp_path / "data", dataset__cache_dir=tmp_path / "cache")
    message = complaint(["train", *flags, "--steps=1"], capsys)
    assert all(word in message for word in words), message
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset__episodes": "[99]"}, ["--dataset.episodes", "0 to 9"]),
        ({"dataset__exclude_episodes": list(range(10))}, ["no episode is left"]),
        ({"rename_map": "{observation.images.scene: ceiling}"}, ["ceiling"]),
        ({"rename_map": "{nothing: scene}"}, ["nothing"]),
        ({"drop_cameras": "[nothing]"}, ["nothing"]),
        ({"drop_cameras": "[observation.images.scene, observation.images.wrist]"}, ["no camera is left"]),
        ({"policy__empty_cameras": 2}, ["--policy.empty_cameras=2"]),
        ({"policy__tokenizer_path": "nowhere.json"}, ["nowhere.json"]),
        ({"policy__tokenizer_max_length": 3}, ["prompt", "3 tokens"]),
        ({"policy__n_action_steps": 11}, ["n_action_steps"]),
        ({"stats": "checkpoint"}, ["--stats"]),
        ({"job_name": ""}, ["--job_name has no value"]),
    ],
)
def test_settings_that_do_not_fit_the_data(
    settings: dict[str, Any], words: list[str], workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = complaint(["train", *workshop.flags(tmp_path / "run", **settings), "--steps=1"], capsys)
    assert all(word in message for word in words), message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = complaint(["train", *workshop.flags(tmp_path / "run", policy__device="cuda"), "--steps=1"], capsys)
    assert "cuda" in message


def test_a_camera_without_a_slot(workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.write_dataset(tmp_path / "data", cameras=("observation.images.scene", "observation.images.side"))
    message = complaint(
        ["train", *workshop.flags(tmp_path / "run", dataset__root=tmp_path / "data"), "--steps=1"], capsys
    )
    assert "observation.images.side has no slot" in message
    assert "--rename_map" in message
    assert "--drop_cameras" in message


@pytest.fixture(scope="module")
def run(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps."""
    folder: Path = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *workshop.flags(folder, steps=2, eval_steps=0)]) == 0
    return folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def test_a_folder_that_holds_a_run(workshop: Any, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = complaint(["train", *workshop.flags(run, steps=2)], capsys)
    assert "holds a run already" in message
    assert f"pi05 train --resume {run}" in message


def test_other_settings_on_resume(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = complaint(["train", "--resume", str(run), "--batch_size=5"], capsys)
    assert "another number of samples" in message
    assert "--global_batch_size=4" in message


def test_fewer_steps_than_were_done(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--steps=1" in complaint(["train", "--resume", str(run), "--steps=1"], capsys)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "training_state/state.json"])
@pytest.mark.parametrize("damage", [delete, cut])
def test_a_damaged_checkpoint(
    name: str, damage: Callable[[str], Break], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(name)(copied / "checkpoints" / "last")
    message = complaint(["train", "--resume", str(copied), "--steps=3"], capsys)
    assert "000002" in message


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", [delete, cut])
def test_a_damaged_checkpoint_in_evaluation(
    name: str, damage: Callable[[str], Break], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(name)(copied / "checkpoints" / "last")
    complaint(["eval", f"--policy.path={copied}", "--episodes=1"], capsys)


def test_a_policy_for_another_robot(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The run was trained on four state numbers; the table-top robot has three.
    assert "state" in complaint(["eval", f"--policy.path={run}", "--episodes=1"], capsys)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["eval"], "--policy.path=RUN"),
        (["eval", "--policy.path=nowhere"], "nowhere"),
        (["eval", "--policy.path=.", "--env=mujoco"], "--env cannot be mujoco"),
        (["eval", "--policy.path=.", "--env=libero"], "add --suite=libero_object"),
        (["eval", "--policy.path=.", "--episodes=0"], "--episodes cannot be 0"),
        (["eval", "--policy.path=.", "word"], "'word' is no flag"),
        (["collect"], "--output=FOLDER"),
        (["collect", "--output=x", "--episodes=0"], "--episodes cannot be 0"),
        (["collect", "--output=x", "--family=other"], "--family cannot be other"),
        (["collect", "--output=x", "--env=mujoco"], "--env cannot be mujoco"),
        (["collect", "--output=x", "--env=libero"], "add --suite=libero_object"),
        (["replay"], "pi05 replay DATASET"),
        (["replay", "nowhere"], "nowhere"),
        (["collect", "--output=."], "exists"),
        (["report"], "pi05 report RUN"),
        (["report", "a", "b"], "no finished evaluation"),
        (["report", "nowhere"], "nowhere"),
        (["report", "."], "not a run"),
        (["report", "--steps=3"], "there is no flag --steps"),
        (["demo", "--threads=0"], "--threads cannot be 0"),
        (["demo", "word"], "'word' is no flag"),
        (["demo", "--episodes=3"], "there is no flag --episodes"),
        (["demo", "--env=mujoco"], "--env cannot be mujoco"),
    ],
)
def test_other_commands(
    words: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert text in complaint(words, capsys)


def test_the_whole_program_ends_without_a_traceback(start: Any) -> None:
    process = start("train", "--preset=tiny")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert output.startswith("error: no data set was given")
    assert "Traceback" not in output


def test_a_missing_tracker_leaves_no_run_behind(
    workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    flags = workshop.flags(tmp_path / "run", wandb__enable=True)
    assert "needs the package wandb" in complaint(["train", *flags], capsys)
    assert not (tmp_path / "run").exists()
