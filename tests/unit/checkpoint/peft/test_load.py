"""Adapters on their base: where the base is found, that it must be the recorded one, and what the receipt says."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pi05.checkpoint.load import load_model, read_config, read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.peft.adapter import resolve_targets, write_adapter
from pi05.checkpoint.peft.locate_base import locate_base
from pi05.checkpoint.sidecar import write_sidecar
from pi05.checkpoint.tensors import combine_hashes, hash_file
from pi05.errors import CheckpointError
from pi05.model.lora import LoraSpec, add_lora, lora_modules, lora_state, merge_lora
from pi05.model.pi05 import Pi05

FULL = ("time_in.weight", "time_in.bias")


def adapt(model: Pi05) -> Pi05:
    """Return a copy with adapters on the expert's queries and values that are not zero, and one map trained in full."""
    model = deepcopy(model)
    targets = resolve_targets(model, r".*gemma_expert.*\.self_attn\.(q|v)_proj")
    generator = torch.Generator().manual_seed(3)
    add_lora(model, dict.fromkeys(targets, LoraSpec(rank=2, alpha=4)), generator)
    with torch.no_grad():
        for value in lora_state(model).values():
            value.add_(torch.randn(value.shape, generator=generator))
        for name in FULL:
            model.get_parameter(name).add_(1)
    return model


@pytest.fixture
def adapted(model) -> Pi05:
    return adapt(model)


@pytest.fixture
def merged(adapted) -> dict[str, torch.Tensor]:
    model = deepcopy(adapted)
    merge_lora(model)
    return {name: value.detach() for name, value in model.named_parameters()}


def own_folder(path: Path, config, **more: object) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    settings = {"format": "pi05", "format_version": 1, "model": config.to_dict(), **more}
    (path / "config.json").write_text(json.dumps(settings))
    return path


@pytest.fixture
def base(tmp_path, config, weights) -> Path:
    """The base as a pi05 folder."""
    folder = own_folder(tmp_path / "elsewhere", config)
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture
def adapter(tmp_path, adapted, base) -> Path:
    """An adapter as PEFT writes it: nothing but its two files."""
    write_adapter(tmp_path / "adapter", adapted, base=str(base), full=FULL)
    return tmp_path / "adapter"


def same(model: Pi05, expected: dict[str, torch.Tensor]) -> bool:
    parameters = dict(model.named_parameters())
    return parameters.keys() == expected.keys() and all(torch.equal(parameters[n], v) for n, v in expected.items())


def test_merged(adapter, base, config, merged, weights):
    model, receipt = read_model(locate(adapter))
    assert model.config == config
    assert same(model, merged)
    assert not same(model, weights)
    assert not lora_modules(model)
    assert receipt.adapter.merge == "merged into the base in float32"


def test_kept_apart(adapter, adapted):
    model, receipt = read_model(locate(adapter), merge=False)
    assert same(model, dict(adapted.named_parameters()))
    assert set(lora_modules(model)) == set(receipt.adapter.modules)
    assert receipt.adapter.merge == "kept apart, not merged"


def test_receipt_holds_the_facts_of_both(adapter, base, model, adapted):
    _, receipt = read_model(locate(adapter))
    file, base_file = adapter / "adapter_model.safetensors", base / "model.safetensors"
    assert receipt.base == read_model(locate(base))[1]
    assert receipt.source == receipt.adapter.source == str(adapter)
    assert receipt.layout == "adapter on pi05"
    assert receipt.bytes == file.stat().st_size + base_file.stat().st_size
    assert receipt.files == {"base/model.safetensors": hash_file(base_file), file.name: hash_file(file)}
    assert receipt.sha256 == combine_hashes(dict(receipt.files))
    told = receipt.adapter
    assert (told.base, told.base_told_by) == (str(base), "adapter_config.json")
    assert told.base_check == "base not verified: the adapter records no hash"
    assert told.modules == tuple(lora_modules(adapted))
    assert set(told.replaced) == set(FULL)
    assert told.parameters == sum(value.numel() for value in lora_state(adapted).values()) + 20 * 20 + 20
    assert (told.sha256, told.bytes) == (hash_file(file), file.stat().st_size)
    text = receipt.render()
    assert receipt.base.render() in text
    for part in ("merged into the base", "base not verified", str(adapter), told.sha256):
        assert part in text
    plain = json.loads(json.dumps(receipt.to_dict()))
    assert plain["base"]["sha256"] == receipt.base.sha256
    assert plain["adapter"]["base_check"] == told.base_check


def test_bfloat16(adapter, merged):
    """The base is rounded when it is loaded, the sum is float32 and rounded once more."""
    model, receipt = read_model(locate(adapter), dtype=torch.bfloat16)
    assert "rounded" in receipt.adapter.merge
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.float(), merged[name], rtol=0.02, atol=0.02), name


def test_horizon_is_the_adapters_own(adapter, base, config):
    (adapter / "config.json").write_text(json.dumps({"type": "pi05", "chunk_size": 3, "tokenizer_max_length": 11}))
    expected = replace(config, horizon=3, max_prompt_tokens=11)
    assert read_config(locate(adapter)) == load_model(adapter).config == expected
    write_sidecar(adapter, {"model": config.to_dict()})
    assert read_config(locate(adapter)) == expected


# Where the base is


def test_the_callers_word_goes_first(adapter, base, tmp_path, weights, merged):
    other = tmp_path / "other"
    shutil.copytree(base, other)
    location = locate(adapter)
    model, receipt = read_model(location, base=locate_base(location, other))
    assert same(model, merged)
    assert (receipt.adapter.base, receipt.adapter.base_told_by) == (str(other), "as given")
    with pytest.raises(CheckpointError, match="base of the adapter is not there") as caught:
        load_model(adapter, base=tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert str(base) not in str(caught.value)


@pytest.mark.parametrize("told", ["../elsewhere", "elsewhere"])
def test_relative_to_the_adapter_or_to_the_working_directory(adapter, adapted, tmp_path, monkeypatch, told, merged):
    write_adapter(adapter, adapted, base=told, full=FULL)
    monkeypatch.chdir(tmp_path)
    assert same(load_model(adapter), merged)


def test_a_run_that_keeps_its_base(tmp_path, adapted, base, config, merged):
    """RUN/base, recorded with its hash, whatever adapter_config.json says; and after a move of the run."""
    run = tmp_path / "run"
    record = {"path": "../../base", "sha256": hash_file(base / "model.safetensors")}
    folder = own_folder(run / "checkpoints" / "000010", config, adapter=True, base=record)
    write_adapter(folder, adapted, base="lerobot/pi05_base", full=FULL)
    shutil.copytree(base, run / "base")
    moved = run.rename(tmp_path / "moved")
    for path in (moved, moved / "checkpoints" / "000010"):
        model, receipt = read_model(locate(path))
        assert same(model, merged)
        assert receipt.adapter.base_told_by == "recorded by pi05"
        assert receipt.adapter.base_check.startswith("verified")
    (folder_config := moved / "checkpoints" / "000010" / "config.json").write_text(
        json.dumps({**json.loads(folder_config.read_text()), "base": None})
    )
    assert read_model(locate(moved))[1].adapter.base_told_by == "kept inside the run"


def test_a_base_that_is_recorded_in_the_sidecar(adapter, base, merged):
    write_sidecar(adapter, {"base": {"path": str(base), "sha256": hash_file(base / "model.safetensors")}})
    model, receipt = read_model(locate(adapter))
    assert same(model, merged)
    assert receipt.adapter.base_check.startswith("verified")


def test_another_base_than_the_recorded_one(adapter, base, tmp_path, weights):
    """LeRobot's `checkpoints/last` moves, and the adapter silently sits on other weights."""
    write_sidecar(adapter, {"base": {"path": str(base), "sha256": hash_file(base / "model.safetensors")}})
    other = tmp_path / "other"
    shutil.copytree(base, other)
    save_file({name: value + 1 for name, value in weights.items()}, other / "model.safetensors")
    with pytest.raises(CheckpointError, match="not the one that the adapter was trained on") as caught:
        load_model(adapter, base=other)
    assert hash_file(base / "model.safetensors") in str(caught.value)
    assert hash_file(other / "model.safetensors") in str(caught.value)


def test_a_base_on_the_hub_has_to_be_downloaded(adapter, adapted, base):
    write_adapter(adapter, adapted, base="lerobot/pi05_base", full=FULL)
    shutil.rmtree(base)
    with pytest.raises(CheckpointError, match="base of the adapter is not there") as caught:
        load_model(adapter)
    text = str(caught.value)
    assert str(adapter / "lerobot" / "pi05_base") in text
    assert str(Path.cwd() / "lerobot" / "pi05_base") in text
    assert "base=" in text


def test_an_adapter_that_records_no_base(adapter, base):
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": None}))
    with pytest.raises(CheckpointError, match="no base is recorded"):
        locate_base(locate(adapter))


# Adapters on adapters


def test_an_adapter_on_an_adapter(adapter, adapted, tmp_path, merged):
    below = deepcopy(adapted)
    merge_lora(below)
    upper = adapt(below)
    write_adapter(tmp_path / "upper", upper, base=str(adapter), full=FULL)
    merge_lora(upper)
    model, receipt = read_model(locate(tmp_path / "upper"))
    assert same(model, {name: value.detach() for name, value in upper.named_parameters()})
    assert receipt.base.adapter is not None
    assert receipt.base.base.adapter is None


@pytest.mark.parametrize("chain", [1, 2])
def test_adapters_that_are_each_others_base(tmp_path, adapted, chain):
    names = ["a", "b"][:chain]
    for name, below in zip(names, [*names[1:], names[0]], strict=True):
        write_adapter(tmp_path / name, adapted, base=str(tmp_path / below), full=FULL)
    with pytest.raises(CheckpointError, match=r"each other's base|is not there"):
        load_model(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"each other's base|is not there"):
        read_config(locate(tmp_path / "a"))


def test_an_adapter_that_does_not_fit(adapter, base, tmp_path, config):
    """An adapter of wider maps."""
    with torch.device("cpu"):
        wide = adapt(Pi05(replace(config, expert_width=28)))
    write_adapter(adapter, wide, base=str(base), full=FULL)
    with pytest.raises(CheckpointError):
        load_model(adapter)
