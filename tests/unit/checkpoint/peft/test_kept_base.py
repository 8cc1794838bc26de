"""The base inside a run: linked, copied or merged; whole or absent; it hashes to what the checkpoints record."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pi05.checkpoint import store
from pi05.checkpoint.load import read_config, read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.peft.kept_base import keep_base, keep_merged
from pi05.errors import CheckpointError
from pi05.model.pi05 import Pi05


@pytest.fixture
def folder(tmp_path: Path, model: Pi05, weights: dict[str, torch.Tensor]) -> Path:
    """A pi05 checkpoint with a training state, which is no part of a base."""
    checkpoint = store.Checkpoint(
        config={"model": model.config.to_dict()},
        weights=weights,
        tokenizer_name="tokenizer.json",
        tokenizer_bytes=b"{}",
        training=store.TrainingFiles(state={"step": 3}),
    )
    return store.save_checkpoint(tmp_path / "source" / "checkpoints" / "000003", checkpoint)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_weights_are_linked_and_read_back_as_the_recorded_ones(tmp_path: Path, folder: Path, model: Pi05) -> None:
    told: list[str] = []
    receipt = read_model(locate(folder))[1]
    record = keep_base(tmp_path / "run", locate(folder), receipt.sha256, told.append)
    kept = tmp_path / "run" / "base"
    assert files(kept) == ["config.json", "model.safetensors"]
    assert (kept / "model.safetensors").samefile(folder / "model.safetensors")
    assert not (kept / "config.json").samefile(folder / "config.json")
    assert told == [f"base: 1 file, {receipt.bytes / 1e6:,.1f} MB, linked into {kept}"]
    assert record == {"path": "../../base", "sha256": receipt.sha256, "source": str(folder)}
    assert (tmp_path / "run" / "checkpoints" / "000001" / record["path"]).resolve().name == "base"
    assert read_config(locate(kept)) == model.config
    assert read_model(locate(kept))[1].sha256 == receipt.sha256


def test_where_links_are_impossible_it_is_copied_with_the_size_said_first(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)  # what the system says of two disks
    told: list[str] = []
    sha256 = read_model(locate(folder))[1].sha256
    keep_base(tmp_path / "run", locate(folder), sha256, told.append)
    kept = tmp_path / "run" / "base"
    assert "copying 0.0 GB" in told[0]
    assert "copied into" in told[1]
    assert not (kept / "model.safetensors").samefile(folder / "model.safetensors")
    assert read_model(locate(kept))[1].sha256 == sha256


def test_a_file_that_was_named_itself_keeps_its_name(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    (tmp_path / "x").mkdir()
    source = tmp_path / "x" / "net.safetensors"
    save_file({name: value.contiguous() for name, value in weights.items()}, source)
    record = keep_base(tmp_path / "run", locate(source), "abc", print)
    assert record["path"] == "../../base/net.safetensors"
    assert files(tmp_path / "run" / "base") == ["net.safetensors"]


def test_links_of_a_hub_cache_are_followed(tmp_path: Path, folder: Path) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(folder / name)
    keep_base(tmp_path / "run", locate(snapshot), "abc", print)
    kept = tmp_path / "run" / "base"
    assert not any(path.is_symlink() for path in kept.rglob("*"))
    assert (kept / "model.safetensors").samefile(folder / "model.safetensors")


def test_openpis_jax_tree_is_kept_as_a_tree(tmp_path: Path, shared: Path) -> None:
    golden = shared / "golden" / "openpi" / "ckpt" / "ema"
    location = locate(golden)
    keep_base(tmp_path / "run", locate(golden), "abc", print)
    again = locate(tmp_path / "run" / "base")
    assert again.kind == "jax"
    assert [path.relative_to(again.path) for path in again.files] == [
        path.relative_to(location.path) for path in location.files
    ]


def test_merged_weights_become_a_folder_of_ours(tmp_path: Path, model: Pi05, weights: dict[str, torch.Tensor]) -> None:
    record = keep_merged(tmp_path / "run", weights, {"model": model.config.to_dict()}, "adapter", print)
    found, receipt = read_model(locate(tmp_path / "run" / "base"))
    assert receipt.sha256 == record["sha256"]
    assert all(torch.equal(value, weights[name]) for name, value in found.named_parameters())


def test_what_an_earlier_start_left_is_replaced(tmp_path: Path, folder: Path) -> None:
    run = tmp_path / "run"
    for name in ("base", ".partial-base"):
        (run / name).mkdir(parents=True)
        (run / name / "model.safetensors").write_bytes(b"other")
    keep_base(run, locate(folder), "abc", print)
    assert sorted(path.name for path in run.iterdir()) == ["base"]
    assert (run / "base" / "model.safetensors").samefile(folder / "model.safetensors")


def test_a_failure_on_the_way_leaves_no_base(tmp_path: Path, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError):
        keep_base(tmp_path / "run", locate(folder), "abc", print)
    assert not (tmp_path / "run" / "base").exists()
