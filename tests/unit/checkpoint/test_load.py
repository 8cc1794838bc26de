"""Every tensor is accounted for once, in every layout, and the sizes are found; refusals: `test_load_refusals.py`."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from weight_folders import LAYOUTS, lerobot_folder, pi05_folder, same_weights

import pi05
from pi05.checkpoint.load import load_model, load_weights, read_config, read_model
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_network(files, config, weights, layout):
    model, receipt = read_model(files[layout], config=config)
    assert model.config == config
    assert same_weights(model, weights)
    assert all(parameter.is_contiguous() and parameter.requires_grad for parameter in model.parameters())
    assert receipt.layout == layout
    assert receipt.source == str(files[layout])
    assert sorted([*receipt.loaded, *receipt.tied]) == sorted(weights)
    assert not receipt.fresh
    assert receipt.parameters == sum(tensor.numel() for tensor in weights.values())
    assert receipt.bytes == files[layout].stat().st_size
    assert receipt.sha256 == hashlib.sha256(files[layout].read_bytes()).hexdigest()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loading_into_a_network_that_exists(files, config, weights, layout):
    model = Pi05(config)
    before = dict(model.named_parameters())
    receipt = load_weights(model, files[layout])
    assert same_weights(model, weights)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert receipt == read_model(files[layout], config=config)[1]


def test_every_tensor_of_the_file_is_in_the_receipt(files, lerobot_tensors, openpi_tensors):
    for layout, tensors in (("LeRobot", lerobot_tensors), ("openpi PyTorch", openpi_tensors)):
        receipt = load_weights(Pi05(read_sizes(files)), files[layout])
        assert len(receipt.loaded) + len(receipt.tied) + len(receipt.ignored) == len(tensors)
        assert set(receipt.ignored) <= set(tensors)
        assert set(receipt.tied.values()) <= set(tensors)


def read_sizes(files: dict[str, Path]) -> ModelConfig:
    return read_config(files["openpi JAX"])


def test_tied_embedding(files, config, openpi_tensors, weights):
    """openpi's file holds the language head only; it is the embedding."""
    model, receipt = read_model(files["openpi PyTorch"], config=config)
    assert receipt.tied == {"embedding.weight": "paligemma_with_expert.paligemma.lm_head.weight"}
    assert list(receipt.ignored) == ["paligemma_with_expert.gemma_expert.lm_head.weight"]
    assert torch.equal(model.embedding.weight, weights["embedding.weight"])


@pytest.mark.parametrize("differ", [True, False])
def test_embedding_and_head_both_present(files, config, lerobot_tensors, weights, differ):
    """The embedding wins, as in LeRobot; the head is ignored by name whether it is equal or not."""
    head = "model.paligemma_with_expert.paligemma.lm_head.weight"
    if not differ:
        lerobot_tensors[head] = weights["embedding.weight"].clone()
        save_file(lerobot_tensors, files["LeRobot"])
    model, receipt = read_model(files["LeRobot"], config=config)
    assert torch.equal(model.embedding.weight, weights["embedding.weight"])
    embedding = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
    assert receipt.ignored[head] == f"not used by π₀.₅; the embedding was read from {embedding}"
    assert not receipt.tied


def test_dead_heads_may_be_absent(files, config, lerobot_tensors, weights):
    kept = {name: tensor for name, tensor in lerobot_tensors.items() if "lm_head" not in name}
    save_file(kept, files["LeRobot"])
    model, receipt = read_model(files["LeRobot"], config=config)
    assert same_weights(model, weights)
    assert not receipt.ignored


def test_a_dead_tensor_may_be_anything(files, config, lerobot_tensors, weights):
    lerobot_tensors["model.paligemma_with_expert.gemma_expert.lm_head.weight"] = torch.full((2,), float("nan"))
    save_file(lerobot_tensors, files["LeRobot"])
    assert same_weights(load_model(files["LeRobot"], config=config), weights)


@pytest.mark.parametrize(
    ("dtype", "compute_dtype", "computes"),
    [
        (torch.float32, None, torch.float32),
        (torch.float32, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, None, torch.bfloat16),
    ],
)
def test_precisions(files, config, weights, dtype, compute_dtype, computes):
    model = load_model(files["LeRobot"], dtype=dtype, config=config, compute_dtype=compute_dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.compute_dtype == computes
    assert torch.equal(model.action_in.weight, weights["action_in.weight"].to(dtype))


def test_half_precision_files_load_into_float32(files, config, lerobot_tensors, weights):
    save_file({name: tensor.bfloat16() for name, tensor in lerobot_tensors.items()}, files["LeRobot"])
    model = load_model(files["LeRobot"], config=config)
    assert same_weights(model, {name: tensor.bfloat16().float() for name, tensor in weights.items()})


def test_the_network_does_not_hang_on_the_file(files, config, weights):
    """Memory-mapped reading, but parameters of its own: the file may change or vanish afterwards."""
    model = load_model(files["pi05"], config=config)
    data = files["pi05"].read_bytes()
    with files["pi05"].open("r+b") as file:
        file.write(bytes(len(data)))
    files["pi05"].unlink()
    assert same_weights(model, weights)


def test_public_name(files, config):
    assert pi05.load_model is load_model


# Sizes


def test_jax_names_with_wrapping(tmp_path, config, jax_arrays, weights):
    np.savez(tmp_path / "w.npz", **{f"params/{name}/value": array for name, array in jax_arrays.items()})
    assert same_weights(load_model(tmp_path / "w.npz", config=config), weights)


def test_lerobot_folder_tells_horizon_and_prompt_length(tmp_path, config, lerobot_tensors, weights):
    folder = lerobot_folder(tmp_path / "policy", lerobot_tensors)
    with pytest.raises(CheckpointError, match="how many attention heads") as caught:
        load_model(folder)
    for known in ("horizon=7", "max_prompt_tokens=33", "num_heads=8", "head_dim=4", "num_kv_heads=2"):
        assert known in str(caught.value)
    assert "wanted: vision_heads\n" in str(caught.value)
    assert same_weights(load_model(folder, config=config), weights)


@pytest.mark.parametrize("inner", ["pretrained_model", "checkpoints/000020/pretrained_model"])
def test_lerobot_output_folders(tmp_path, config, lerobot_tensors, weights, inner):
    lerobot_folder(tmp_path / "out" / inner, lerobot_tensors)
    if inner.startswith("checkpoints"):
        (tmp_path / "out" / "checkpoints" / "last").symlink_to("000020")
    assert same_weights(load_model(tmp_path / "out", config=config), weights)


def test_openpi_folder(tmp_path, config, openpi_tensors, weights):
    save_file(openpi_tensors, tmp_path / "model.safetensors")
    model, receipt = read_model(tmp_path, config=config)
    assert same_weights(model, weights)
    assert receipt.source == str(tmp_path)
    assert list(receipt.files) == ["model.safetensors"]


def test_sharded_folder(tmp_path, config, lerobot_tensors, weights):
    names = sorted(lerobot_tensors)
    shards = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for file, members in shards.items():
        save_file({name: lerobot_tensors[name] for name in members}, tmp_path / file)
    index = {"weight_map": {name: file for file, members in shards.items() for name in members}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    model, receipt = read_model(tmp_path, config=config)
    assert same_weights(model, weights)
    assert list(receipt.files) == ["a.safetensors", "b.safetensors"]
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match="parts of the sharded checkpoint are missing") as caught:
        load_model(tmp_path, config=config)
    assert "b.safetensors" in str(caught.value)


@pytest.mark.parametrize("inside", ["", "model.safetensors"])
def test_own_checkpoint_tells_everything(tmp_path, config, weights, inside):
    folder = pi05_folder(tmp_path / "000010", config, weights)
    model = load_model(folder / inside)
    assert model.config == config
    assert same_weights(model, weights)
    assert read_config(folder) == config


def test_run_folder_means_its_last_checkpoint(tmp_path, config, weights):
    changed = {name: tensor + 1 for name, tensor in weights.items()}
    pi05_folder(tmp_path / "run" / "checkpoints" / "000010", config, weights)
    pi05_folder(tmp_path / "run" / "checkpoints" / "000020", config, changed)
    (tmp_path / "run" / "config.json").write_text('{"steps": 20}')
    (tmp_path / "run" / "checkpoints" / "last").symlink_to("000010")
    assert same_weights(load_model(tmp_path / "run"), weights)
    (tmp_path / "run" / "checkpoints" / "last").unlink()
    (tmp_path / "run" / "checkpoints" / "last").symlink_to("000020")
    assert same_weights(load_model(tmp_path / "run"), changed)


def test_horizon_may_be_changed_but_heads_may_not(tmp_path, config, weights):
    folder = pi05_folder(tmp_path / "000010", config, weights)
    assert load_model(folder, config=replace(config, horizon=9)).config.horizon == 9
    other = replace(config, num_heads=4, num_kv_heads=1, head_dim=8)
    for load in (lambda: load_model(folder, config=other), lambda: load_weights(Pi05(other), folder)):
        with pytest.raises(CheckpointError, match="other sizes") as caught:
            load()
        assert "num_heads=4" in str(caught.value)
        assert "num_heads=8" in str(caught.value)


def test_paths_with_a_tilde(tmp_path, monkeypatch, files, config, weights):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(files["pi05"], tmp_path / "copy.safetensors")
    assert same_weights(load_model("~/copy.safetensors", config=config), weights)
