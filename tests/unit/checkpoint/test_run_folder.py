"""The checkpoints of a run: which is meant, which are deleted, and what a killed process leaves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from pi05.checkpoint import run_folder, store
from pi05.errors import CheckpointError


def save(run: Path, step: int) -> Path:
    checkpoint = store.Checkpoint(
        config={"step": step},
        weights={"a": torch.ones(10)},
        training=store.TrainingFiles(state={"step": step}, raw_weights={"a": torch.ones(10)}),
    )
    return store.save_checkpoint(run_folder.checkpoint_folder(run, step), checkpoint)


def test_last_and_best_are_relative_links(tmp_path: Path) -> None:
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    run_folder.point(tmp_path, "best", first)
    run_folder.point(tmp_path, "last", first)
    run_folder.point(tmp_path, "last", second)
    assert os.readlink(tmp_path / "checkpoints" / "last") == "000002"
    assert run_folder.pointed(tmp_path, "best") == first
    assert run_folder.resolve_checkpoint(tmp_path) == second
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert run_folder.resolve_checkpoint(moved) == moved / "checkpoints" / "000002"


def test_a_link_that_is_right_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that resume together: one removes leftovers while another would make the link under such a name."""
    target = save(tmp_path, 1)
    run_folder.point(tmp_path, "last", target)
    run_folder.point_best(tmp_path, 1)
    monkeypatch.setattr(Path, "symlink_to", lambda *_: pytest.fail("written"))
    run_folder.point(tmp_path, "last", target)
    run_folder.point_best(tmp_path, 1)


def test_keep_last_spares_the_best(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path, step)
    run_folder.point(tmp_path, "best", run_folder.checkpoint_folder(tmp_path, 2))
    deleted = run_folder.keep_last(tmp_path, 2)
    assert [path.name for path in deleted] == ["000001", "000003"]
    assert [path.name for path in run_folder.list_checkpoints(tmp_path)] == ["000002", "000004", "000005"]


def test_leftovers_of_a_killed_process_are_no_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, 1)
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / ".partial-000002").mkdir()
    (checkpoints / ".partial-000002" / "model.safetensors").write_bytes(b"half")
    (checkpoints / ".deleted-000000").mkdir()
    (checkpoints / ".last.77.tmp").symlink_to("000001")
    (tmp_path / ".config.json.77.tmp").write_text("{")
    assert [path.name for path in run_folder.list_checkpoints(tmp_path)] == ["000001"]
    assert run_folder.resolve_checkpoint(tmp_path).name == "000001"
    run_folder.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.parent != checkpoints / "000001") == [
        "000001",
        "checkpoints",
        "optimizer.safetensors",
        "raw.safetensors",
        "state.json",
    ]
    save(tmp_path, 2)


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint found"):
        run_folder.resolve_checkpoint(tmp_path / "nowhere")


def test_best_follows_the_training_state(tmp_path: Path) -> None:
    """A process that is killed between checkpoint and link leaves the older one as best; a resumed run mends that."""
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    run_folder.point(tmp_path, "best", older)
    run_folder.point_best(tmp_path, None)
    assert run_folder.pointed(tmp_path, "best") == older
    run_folder.point_best(tmp_path, 2)
    assert run_folder.pointed(tmp_path, "best") == newer
    run_folder.point_best(tmp_path, 9)  # its checkpoint is gone
    assert run_folder.pointed(tmp_path, "best") == newer


def test_a_run_that_was_copied_with_its_links_followed_is_a_run(tmp_path: Path) -> None:
    first, second = save(tmp_path / "run", 1), save(tmp_path / "run", 2)
    run_folder.point(tmp_path / "run", "last", first)
    copy = Path(shutil.copytree(tmp_path / "run", tmp_path / "copy"))
    assert not (copy / "checkpoints" / "last").is_symlink()
    run_folder.point(copy, "last", copy / "checkpoints" / second.name)
    assert os.readlink(copy / "checkpoints" / "last") == "000002"
    assert [path.name for path in run_folder.list_checkpoints(copy)] == ["000001", "000002"]
