"""What may differ when a run is resumed, and what the schedule does then."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from fake_policies import make_policy

from pi05.checkpoint.run_lock import RunLock
from pi05.checkpoint.store import Checkpoint, TrainingFiles, save_checkpoint
from pi05.errors import CheckpointError, ConfigError, DataError
from pi05.files import read_json, write_json
from pi05.settings.schema import walk
from pi05.train.config import TINY_BASE, DatasetConfig, EmaConfig, PolicyConfig, TrainConfig
from pi05.train.records.config import WandbConfig
from pi05.train.resume import (
    FREE,
    FREE_GROUPS,
    OpenRun,
    build_schedule,
    compare,
    open_run,
    require_data_of_run,
    schedule_notice,
    start_files,
    take_folder,
)

UNLOCKED = RunLock(Path("nowhere"), held=False)
STORED = TrainConfig(steps=100)


def test_free_settings_exist() -> None:
    paths = {setting.path for setting in walk(TrainConfig)}
    assert paths >= FREE
    assert all(any(path.startswith(group) for path in paths) for group in FREE_GROUPS)


def test_permitted_changes_are_told() -> None:
    now = dataclasses.replace(
        STORED, resume=True, steps=200, threads=2, wandb=WandbConfig(enable=True), dataset=DatasetConfig(root="moved")
    )
    assert compare(STORED, now) == (
        "dataset.root None → moved", "wandb.enable False → True", "steps 100 → 200", "threads None → 2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed 42 → 1"),
        ({"policy": PolicyConfig(optimizer_lr=1e-3)}, "policy.optimizer_lr None → 0.001"),
        ({"policy": PolicyConfig(train_expert_only=True)}, "policy.train_expert_only False → True"),
        ({"ema": EmaConfig(enable=True)}, "ema.enable False → True"),
        ({"dataset": DatasetConfig(episodes=(1, 2))}, "dataset.episodes None → (1, 2)"),
        ({"augment": False}, "augment True → False"),
        ({"loss": "openpi"}, "loss masked → openpi"),
        ({"precision": "float32"}, "precision mixed → float32"),
    ],
)
def test_everything_else_is_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compare(STORED, dataclasses.replace(STORED, **changes))  # type: ignore[arg-type]
    assert refusal.value.found == named


def test_a_run_without_a_checkpoint_starts_again(tmp_path: Path) -> None:
    config = TrainConfig(from_scratch=True, output_dir=str(tmp_path / "run"))
    fresh = open_run(config, UNLOCKED)
    start_files(fresh, config, None, {"passed": []})
    assert read_json(tmp_path / "run" / "receipt.json") == {"source": "drawn from the seed", "seed": 42}
    with pytest.raises(ConfigError, match="holds a run already"):
        open_run(config, UNLOCKED)
    again = open_run(dataclasses.replace(config, resume=True), UNLOCKED)
    assert again.folder is None
    assert again.saved == {}


def test_a_checkpoint_whose_config_was_edited_is_refused_until_it_is_allowed(tmp_path: Path) -> None:
    start = TrainConfig(steps=100, from_scratch=True, output_dir=str(tmp_path))
    start_files(open_run(start, UNLOCKED), start, None, {})
    config = dataclasses.replace(start, resume=True)
    processor = make_policy(TINY_BASE / "tokenizer.json").processor
    state = {
        "step": 2,
        "loader": {},
        "data": {},
        "schedule": build_schedule(start, {}).to_dict(),
        "samples_per_step": 32,
        "world_size": 1,
    }
    stored = Checkpoint(
        config={"processor": processor.to_dict(), "n_action_steps": 5}, weights={}, training=TrainingFiles(state=state)
    )
    folder = save_checkpoint(tmp_path / "checkpoints" / "000002", stored)
    assert open_run(config, UNLOCKED).folder == folder
    written = read_json(folder / "config.json")
    write_json(folder / "config.json", {**written, "n_action_steps": 9})
    with pytest.raises(CheckpointError, match=r"n_action_steps(.|\n)*--allow=base\.edited"):
        open_run(config, UNLOCKED)
    assert open_run(dataclasses.replace(config, allow=("base.edited",)), UNLOCKED).folder == folder


def test_a_folder_with_other_files_is_fine(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert open_run(TrainConfig(from_scratch=True, output_dir=str(tmp_path)), UNLOCKED).root == tmp_path


def test_the_schedule_of_the_first_start_stays() -> None:
    first = build_schedule(STORED, {})
    assert (first.peak, first.warmup_steps, first.decay_steps, first.end) == (2.5e-5, 3, 100, 2.5e-6)
    assert schedule_notice(STORED, first) is None
    longer = dataclasses.replace(STORED, steps=200)
    kept = build_schedule(longer, {"schedule": first.to_dict()})
    assert kept == first
    assert "stays at 2.5e-06 from step 100 on" in str(schedule_notice(longer, kept))


def test_other_data_are_named(tmp_path: Path) -> None:
    identity = {"statistics": "abc", "train_episodes": [0, 1], "held_out": [2], "frames": 30}
    require_data_of_run(OpenRun(root=tmp_path), identity)
    run = OpenRun(root=tmp_path, folder=tmp_path, saved={"data": dict(identity)})
    require_data_of_run(run, identity)
    with pytest.raises(DataError, match="other statistics, frames") as refusal:
        require_data_of_run(run, {**identity, "statistics": "xyz", "frames": 31})
    assert refusal.value.found == "statistics xyz; frames 31"


def test_two_runs_that_found_the_same_folder_empty(tmp_path: Path) -> None:
    config = TrainConfig(from_scratch=True, output_dir=str(tmp_path / "run"))
    first, second = open_run(config, UNLOCKED), open_run(config, UNLOCKED)
    with RunLock(first.root) as lock:
        take_folder(first, lock)
        with RunLock(second.root) as other, pytest.raises(ConfigError, match="another process is writing"):
            take_folder(second, other)
        start_files(first, config, None, {})
    with RunLock(second.root) as other, pytest.raises(ConfigError, match="holds a run already"):
        take_folder(second, other)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"train_episodes": [0, 1], "held_out": [2]}, ([0, 1], [2])),
        ({"train_episodes": [0, 1], "held_out": []}, ([0, 1], [])),
        ({"train_episodes": [0, 3], "held_out": [2]}, None),
        ({"train_episodes": ["0"], "held_out": [2]}, None),
        ({"train_episodes": [0]}, None),
        ({"train_episodes": 0, "held_out": [2]}, None),
    ],
)
def test_a_resumed_run_keeps_its_episodes(stored: dict[str, Any], expected: object, tmp_path: Path) -> None:
    """By whatever rule it chose them: that of version 0.1 was another."""
    run = OpenRun(root=tmp_path, started=True, folder=tmp_path, saved={"data": stored})
    assert run.episodes(3) == expected
    assert OpenRun(root=tmp_path).episodes(3) is None
