"""Checkpoint folders: complete or absent, whatever happens while they are written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from full_disk import largest_file

from pi05.checkpoint import run_folder, store
from pi05.checkpoint.store import Checkpoint, TrainingFiles
from pi05.errors import CheckpointError, TrainingError


def make(value: float = 1.0, size: int = 1_000) -> Checkpoint:
    return Checkpoint(
        config={"step": 3, "model": {"depth": 2}},
        weights={"a": torch.full((size,), value)},
        tokenizer_name="tokenizer.json",
        tokenizer_bytes=b"{}",
        training=TrainingFiles(
            state={"step": 3},
            optimizer={f"{name}/a": torch.full((size,), 2 * value) for name in ("exp_avg", "exp_avg_sq")},
            raw_weights={"a": torch.full((size,), 3 * value)},
        ),
    )


def save(run: Path, step: int, value: float = 1.0) -> Path:
    return store.save_checkpoint(run_folder.checkpoint_folder(run, step), make(value))


def test_round_trip(tmp_path: Path) -> None:
    folder = save(tmp_path, 3)
    assert folder == tmp_path / "checkpoints" / "000003"
    found = store.load_checkpoint(folder, training=True)
    wanted = make()
    assert found.config == {"format": "pi05", "format_version": 1, **wanted.config}
    assert (found.tokenizer_name, found.tokenizer_bytes) == ("tokenizer.json", b"{}")
    assert torch.equal(found.weights["a"], wanted.weights["a"])
    assert found.training is not None
    assert wanted.training is not None
    assert found.training.state == {"step": 3}
    assert {n: t.tolist() for n, t in found.training.optimizer.items()} == {
        n: t.tolist() for n, t in wanted.training.optimizer.items()
    }
    assert found.training.raw_weights is not None
    assert torch.equal(found.training.raw_weights["a"], torch.full((1_000,), 3.0))
    assert store.load_checkpoint(folder).training is None


def test_an_adapter_takes_the_place_of_the_weights(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_bytes(b"adapter")

    checkpoint = Checkpoint(config={"step": 3}, weights=make().weights, adapter=write, training=make().training)
    folder = store.save_checkpoint(run_folder.checkpoint_folder(tmp_path, 3), checkpoint)
    run_folder.point(tmp_path, "last", folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "adapter_config.json", "adapter_model.safetensors", "training_state"}
    assert store.is_adapter(folder)
    assert run_folder.resolve_checkpoint(tmp_path) == run_folder.resolve_checkpoint(folder) == folder.resolve()
    found = store.load_checkpoint(folder, training=True)
    assert (found.weights, found.config["step"]) == ({}, 3)
    assert found.training is not None
    assert set(found.training.optimizer) == {"exp_avg/a", "exp_avg_sq/a"}


def test_an_adapter_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        store.write_atomic(folder / "adapter_model.safetensors", bytes(5_000))

    checkpoint = Checkpoint(config={}, weights={}, adapter=write)
    with largest_file(3_000), pytest.raises(TrainingError, match="earlier checkpoints are intact"):
        store.save_checkpoint(run_folder.checkpoint_folder(tmp_path, 1), checkpoint)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_an_existing_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    save(tmp_path, 3)
    with pytest.raises(CheckpointError, match="exists already"):
        save(tmp_path, 3, value=9.0)
    assert store.load_checkpoint(tmp_path / "checkpoints" / "000003").weights["a"][0] == 1.0


@pytest.mark.parametrize("limit", [100, 3_000, 6_000])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, limit: int) -> None:
    """Limits that hit the weights, the weights' end, and (with 6,000) the optimizer's moments."""
    save(tmp_path, 1)
    with largest_file(limit), pytest.raises(TrainingError, match="earlier checkpoints are intact"):
        save(tmp_path, 2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000001"]
    assert store.load_checkpoint(tmp_path / "checkpoints" / "000001", training=True).weights["a"][0] == 1.0
    save(tmp_path, 2)


@pytest.mark.parametrize("name", ["model.safetensors", "training_state/optimizer.safetensors"])
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path, 1)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-10])
    with pytest.raises(CheckpointError, match="is damaged"):
        store.load_checkpoint(folder, training=True)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        store.load_checkpoint(folder, training=True)


def test_foreign_and_newer_folders_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    store.write_json(folder / "config.json", {"type": "pi05"})
    with pytest.raises(CheckpointError, match="not a pi05 checkpoint"):
        store.load_checkpoint(folder)
    store.write_json(folder / "config.json", {"format": "pi05", "format_version": 2, "pi05_version": "9"})
    with pytest.raises(CheckpointError, match="newer pi05"):
        store.load_checkpoint(folder)


def test_others_may_read_what_the_umask_lets_them_read(tmp_path: Path) -> None:
    folder = store.save_checkpoint(tmp_path / "000001", Checkpoint(config={}, weights={"w": torch.zeros(2)}))
    plain = tmp_path / "plain"
    plain.touch()
    modes = {path.name: path.stat().st_mode for path in folder.iterdir()}
    assert set(modes.values()) == {plain.stat().st_mode}
