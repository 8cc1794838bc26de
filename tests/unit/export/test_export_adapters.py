"""Adapters leave merged, when that changes nothing, or alone. On adapters of the packaged network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from exports import LAYOUTS, everything, silent
from safetensors.torch import load_file, save_file

from pi05.checkpoint.load import read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.peft.adapter import write_adapter
from pi05.checkpoint.sidecar import SIDECAR, read_sidecar
from pi05.checkpoint.tensors import hash_file
from pi05.cli import main
from pi05.errors import CheckpointError
from pi05.export import checks
from pi05.export.export import export_policy
from pi05.export.probe import PROBE, ask, compare, make_probe
from pi05.export.relocate import relocate
from pi05.export.source import open_source
from pi05.export.verify import verify
from pi05.files import write_json
from pi05.model.lora import LoraSpec, add_lora, lora_modules
from pi05.policy import Policy
from pi05.train.config import TINY_BASE


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of an adapter on the packaged network, as if trained, and the base beside it."""
    root = tmp_path_factory.mktemp("lora")
    base = Path(shutil.copytree(TINY_BASE, root / "base"))
    model, receipt = read_model(locate(base))
    names = [f"expert.layers.{layer}.attention.{part}" for layer in range(4) for part in ("query", "value")]
    add_lora(model, {name: LoraSpec(rank=4, alpha=8) for name in names}, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in lora_modules(model).values():
            module.lora_b.normal_(std=0.05, generator=generator)
    folder = root / "checkpoints" / "000012"
    write_adapter(folder, model, base=str(base), extra={})
    config = json.loads((base / "config.json").read_text())
    record = {"path": "../../base", "sha256": receipt.sha256}
    write_json(folder / "config.json", {**config, "adapter": True, "base": record, "step": 12})
    shutil.copy(base / "tokenizer.json", folder)
    return folder


@pytest.mark.parametrize("to", LAYOUTS)
def test_adapters_are_merged_and_the_difference_is_stored(lora_run: Path, tmp_path: Path, to: Any) -> None:
    result = export_policy(locate(lora_run), tmp_path / "out", to=to, say=silent)
    assert result.merge is not None
    assert 0 <= result.merge["normalised_actions"] < 1e-5
    facts = read_sidecar(result.folder)
    assert facts is not None
    assert facts["merge"] == dict(result.merge)
    assert facts["source"]["step"] == 12
    assert "adapter_config.json" not in everything(result.folder)
    probe = make_probe(Policy.load(TINY_BASE).processor)
    unmerged = open_source(locate(lora_run), merge=False).policy
    assert lora_modules(unmerged.model)
    written = Policy.load(result.folder)
    difference = compare(ask(written, probe), ask(unmerged, probe), unmerged.processor)
    assert not difference.exceeds(1e-5)
    base = ask(Policy.load(TINY_BASE), probe)
    assert compare(ask(written, probe), base, unmerged.processor).normalized > 1e-2  # the adapter does something


def test_a_merge_that_changes_the_policy_is_refused(
    lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge that forgets one adapter, as a wrong scaling or a missed module would."""
    merge = checks.merge_lora

    def forgetful(model: Any) -> None:
        with torch.no_grad():
            next(iter(lora_modules(model).values())).lora_b.zero_()
        merge(model)

    monkeypatch.setattr(checks, "merge_lora", forgetful)
    with pytest.raises(CheckpointError, match="merging the adapters changes the policy; nothing was written") as caught:
        export_policy(locate(lora_run), tmp_path / "out", to="pi05", say=silent)
    assert "0.0001" in str(caught.value.wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def lerobot_base(lora_run: Path, tmp_path: Path) -> Path:
    """Return the adapter's base as `pi05 export --to lerobot` writes it."""
    return export_policy(locate(lora_run.parent.parent / "base"), tmp_path / "theirs", to="lerobot", say=silent).folder


@pytest.mark.parametrize("to", ["lerobot", "pi05"])
def test_an_adapter_alone(lora_run: Path, lerobot_base: Path, tmp_path: Path, to: Any) -> None:
    named = str(lerobot_base) if to == "lerobot" else None
    result = export_policy(locate(lora_run), tmp_path / "out", to=to, adapter_only=True, base_name=named, say=silent)
    names = everything(result.folder)
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json", SIDECAR, PROBE} <= names
    assert "model.safetensors" not in names
    written = (result.folder / "adapter_model.safetensors").read_bytes()
    assert written == (lora_run / "adapter_model.safetensors").read_bytes()
    adapter = json.loads((result.folder / "adapter_config.json").read_text())
    base = lora_run.parent.parent / "base"
    assert adapter["base_model_name_or_path"] == (named or str(base))
    facts = read_sidecar(result.folder)
    assert facts is not None
    assert (facts["layout"], facts["merge"]) == (f"{to}-adapter", None)
    assert facts["base"] == {"path": str(base), "sha256": hash_file(base / "model.safetensors")}
    verification = verify(result.folder, say=silent)
    assert verification.source is not None
    if to == "lerobot":
        assert json.loads((result.folder / "config.json").read_text())["use_peft"] is True
        assert not any("nobody has checked" in note for note in result.notes)


def test_a_base_that_lerobot_cannot_read_is_refused(lora_run: Path, tmp_path: Path) -> None:
    """It would print a line and run the adapter on random weights."""
    with pytest.raises(CheckpointError, match="would run it on random weights") as caught:
        export_policy(locate(lora_run), tmp_path / "out", to="lerobot", adapter_only=True, say=silent)
    assert "--with_base" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_the_base_is_written_beside_the_adapter(lora_run: Path, tmp_path: Path) -> None:
    words = ["export", "--to=lerobot", "--adapter_only", "--with_base", str(lora_run), str(tmp_path / "out")]
    assert main(words) == 0
    out = tmp_path / "out"
    adapter = json.loads((out / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(out / "base")
    assert json.loads((out / "base" / "config.json").read_text())["use_peft"] is False
    original = read_model(locate(lora_run.parent.parent / "base"))[0]
    written, receipt = read_model(locate(out / "base"))
    assert receipt.layout == "LeRobot"
    for (name, ours), theirs in zip(original.named_parameters(), written.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    moved = out.rename(tmp_path / "moved")
    lines = relocate(moved)
    assert f"adapter_config.json: base {out / 'base'} → {moved / 'base'}" in lines
    verification = verify(moved, say=silent)
    assert verification.source is not None
    (moved / "base" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not as it was exported"):
        verify(moved, say=silent)


def test_a_named_base_has_to_hold_the_same_weights(lora_run: Path, lerobot_base: Path, tmp_path: Path) -> None:
    weights = lerobot_base / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.action_out_proj.bias"] += 1e-3
    save_file(tensors, weights, {"format": "pt"})
    plain = lora_run.parent.parent / "base"
    for base, message in ((lerobot_base, "may hold other weights"), (plain, "not one that LeRobot can read")):
        with pytest.raises(CheckpointError, match=message):
            export_policy(
                locate(lora_run), tmp_path / "o", to="lerobot", adapter_only=True, base_name=str(base), say=silent
            )


def test_an_adapter_with_another_base_is_noticed(lora_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(lora_run.parent.parent, tmp_path / "run"))
    out = export_policy(
        locate(run / "checkpoints" / "000012"), tmp_path / "out", to="pi05", adapter_only=True, say=silent
    ).folder
    weights = run / "base" / "model.safetensors"
    tensors = load_file(weights)
    tensors["action_out.bias"] += 1e-3
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match="not the one that the adapter was trained on"):
        verify(out, say=silent)


def test_the_bases_name_is_the_users(lora_run: Path, tmp_path: Path) -> None:
    result = export_policy(
        locate(lora_run), tmp_path / "o", to="lerobot", adapter_only=True, base_name="lab/base", say=silent
    )
    out = result.folder
    assert any("lab/base is not on this machine, so nobody has checked" in note for note in result.notes)
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "lab/base"
    (line,) = relocate(out, base_name="/elsewhere/base")
    assert line == "adapter_config.json: base lab/base → /elsewhere/base"
    verify(out, say=silent)  # the base is found where pi05.json says
