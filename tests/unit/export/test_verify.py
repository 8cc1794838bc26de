"""A folder that is not what was exported, or whose source changed, is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from exports import silent
from safetensors.torch import load_file, save_file

from pi05.checkpoint.locate import locate
from pi05.checkpoint.sidecar import SIDECAR, read_sidecar, write_sidecar
from pi05.checkpoint.tensors import hash_file
from pi05.errors import CheckpointError
from pi05.export.export import export_policy
from pi05.export.probe import PROBE
from pi05.export.verify import verify
from pi05.train.config import TINY_BASE


def spoil(folder: Path, forge: bool) -> None:
    """Change one weight; with `forge` also its recorded hash."""
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.time_mlp_out.bias"][0] += 0.05
    save_file(tensors, weights, {"format": "pt"})
    if forge:
        facts = read_sidecar(folder)
        assert facts is not None
        facts["files"]["model.safetensors"] = {"sha256": hash_file(weights), "bytes": weights.stat().st_size}
        write_sidecar(folder, facts)


def test_an_untouched_folder_is_verified(exported_copy: Path) -> None:
    lines: list[str] = []
    (exported_copy / "README.md").write_text("a card that came later")
    verification = verify(exported_copy, say=lines.append)
    assert verification.stored.normalized == 0
    assert verification.source is not None
    assert len(lines) == 3
    assert "limit 0.0001" in lines[1]


def test_one_changed_weight_shows_in_the_hash_and_in_the_actions(exported_copy: Path) -> None:
    spoil(exported_copy, forge=False)
    with pytest.raises(CheckpointError, match="not as it was exported") as caught:
        verify(exported_copy, say=silent)
    assert caught.value.found == "model.safetensors has another content"
    spoil(exported_copy, forge=True)
    with pytest.raises(CheckpointError, match="does not give the actions that are stored") as caught:
        verify(exported_copy, say=silent)
    assert "0.0001" in str(caught.value.wanted)
    assert "normalised actions by" in str(caught.value.found)


def test_other_statistics_show_in_the_actions(exported_copy: Path) -> None:
    name = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    pre = "policy_preprocessor_step_3_normalizer_processor.safetensors"
    facts = read_sidecar(exported_copy)
    assert facts is not None
    for file in (name, pre):
        tensors = load_file(exported_copy / file)
        tensors["action.q99"] += 0.01
        save_file(tensors, exported_copy / file)
        facts["files"][file] = {
            "sha256": hash_file(exported_copy / file),
            "bytes": (exported_copy / file).stat().st_size,
        }
    write_sidecar(exported_copy, facts)
    with pytest.raises(CheckpointError, match="does not give the actions that are stored") as caught:
        verify(exported_copy, say=silent)
    assert "normalised actions by 0," in str(caught.value.found)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / PROBE).write_bytes(b"x"), "has 1 bytes"),
        (lambda folder: (folder / SIDECAR).unlink(), "nothing to verify against"),
        (lambda folder: shutil.rmtree(folder), "nothing to verify against"),
    ],
)
def test_a_damaged_folder_is_named(exported_copy: Path, damage: Any, message: str) -> None:
    damage(exported_copy)
    with pytest.raises(CheckpointError, match=message):
        verify(exported_copy, say=silent)


def test_another_source_shows(exported_copy: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(TINY_BASE, tmp_path / "source"))
    assert verify(exported_copy, source=source, say=silent).source is not None
    tensors = load_file(source / "model.safetensors")
    tensors["action_out.bias"] += 1e-3
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not give the actions of"):
        verify(exported_copy, source=source, say=silent)


@pytest.mark.parametrize("gone", [True, False])
def test_a_source_that_is_gone_or_went_on_is_told(tmp_path: Path, gone: bool) -> None:
    source = Path(shutil.copytree(TINY_BASE, tmp_path / "source"))
    out = export_policy(locate(source), tmp_path / "out", to="pi05", say=silent).folder
    if gone:
        shutil.rmtree(source)
    else:
        tensors = load_file(source / "model.safetensors")
        tensors["action_out.bias"] += 1e-3
        save_file(tensors, source / "model.safetensors")
    verification = verify(out, say=silent)
    assert verification.source is None
    assert ("not there" if gone else "other weights by now") in verification.notes[0]
