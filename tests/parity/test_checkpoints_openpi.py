"""openpi's JAX checkpoints, as openpi wrote them: EMA, raw, without EMA, with LoRA; each gives openpi's own actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.npyio import NpzFile

from pi05.checkpoint.load import load_model, read_config, read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.openpi.jax_lora import SCALING
from pi05.checkpoint.openpi.jax_names import jax_layout
from pi05.checkpoint.weights import open_tensors
from pi05.model.pi05 import Pi05

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "openpi"
CHECKPOINTS = FOLDER / "ckpt"
TOLERANCE = 1e-4
"""Absolute, float32 sums in another order; velocities and actions reach 5."""
LOSS_TOLERANCE = 1e-4
"""Absolute, per element of a loss that reaches 36; JAX takes the angles of the time embedding in float32."""
RAW_SCALE, RAW_SHIFT = 1.03, 0.01
"""The raw weights of the recorded EMA checkpoint are the EMA weights times 1.03 plus 0.01."""


@pytest.fixture(scope="module")
def params(openpi) -> NpzFile:
    """The weights that openpi's JAX model had."""
    with np.load(openpi.weights) as archive:
        yield archive


def leaves(model: Pi05) -> dict[str, np.ndarray]:
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return {name: leaf.numpy() for name, leaf in jax_layout(model.config).to_foreign(weights).items()}


def same_leaves(model: Pi05, expected: dict[str, np.ndarray]) -> bool:
    found = leaves(model)
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("path", ["ema/6", "ema", "ema/6/params", "noema/6"])
def test_jax_folders_give_the_recorded_actions(openpi, params, compare, path):
    model, receipt = read_model(locate(CHECKPOINTS / path), config=openpi.config)
    assert same_leaves(model, dict(params))
    assert receipt.layout == "openpi JAX"
    assert receipt.source == str(CHECKPOINTS / ("noema/6" if "noema" in path else "ema/6"))
    assert len(receipt.loaded) == 111
    assert (receipt.tied, receipt.fresh, receipt.ignored, receipt.merged, receipt.notes) == ({}, {}, {}, {}, ())
    actions = model.sample_actions(openpi.batch, openpi.sample_noise)
    compare(f"actions of {path}", actions, openpi.outputs["sample_actions"], TOLERANCE)


def test_raw_weights_are_beside_the_moving_average(openpi, params):
    model, receipt = read_model(locate(CHECKPOINTS / "ema" / "6", "raw"), config=openpi.config)
    expected = {name: (value * np.float32(RAW_SCALE) + np.float32(RAW_SHIFT)) for name, value in params.items()}
    found = leaves(model)
    assert all(np.allclose(found[name], value, rtol=0, atol=1e-6) for name, value in expected.items())
    assert not same_leaves(model, dict(params))
    assert sorted(receipt.ignored) == ["opt_state", "step"]
    assert "raw weights" in receipt.notes[0]
    assert read_model(locate(CHECKPOINTS / "ema" / "6" / "train_state"), config=openpi.config)[1] == receipt


def test_without_a_moving_average_raw_is_the_same(openpi, params):
    plain, _ = read_model(locate(CHECKPOINTS / "noema" / "6"), config=openpi.config)
    raw, receipt = read_model(locate(CHECKPOINTS / "noema" / "6", "raw"), config=openpi.config)
    assert same_leaves(raw, leaves(plain))
    assert receipt.notes == ("trained without a moving average: params/ holds the raw weights",)


def test_sizes_are_told_by_shapes_alone(openpi):
    free = {"horizon": 50, "max_prompt_tokens": 200}
    assert read_config(locate(CHECKPOINTS / "ema" / "6")) == replace(openpi.config, **free)


def test_round_trip_of_a_jax_folder_is_bit_equal(openpi, params):
    source = open_tensors(locate(CHECKPOINTS / "ema" / "6"))
    layout = jax_layout(openpi.config)
    back = layout.to_foreign(layout.to_ours({name: source.read(name) for name in source.shapes}))
    assert all(np.array_equal(back[name].numpy(), value) for name, value in params.items())


def test_lora_network(openpi, compare):
    model, receipt = read_model(locate(FOLDER / "tiny_lora" / "params.npz"), config=openpi.config)
    with np.load(FOLDER / "tiny_lora" / "outputs_f32.npz") as archive:
        golden = dict(archive)
    for steps, name in ((10, "sample_actions"), (5, "sample_actions_5steps")):
        actions = model.sample_actions(openpi.batch, openpi.sample_noise, num_steps=steps)
        compare(f"actions with LoRA, {steps} steps", actions, golden[name], TOLERANCE)
    with torch.no_grad():
        prefix, valid = model.embed_prefix(openpi.batch)
        v_t = model.velocity(openpi.extra["inputs"]["x_t"], openpi.time, model.prefill(prefix, valid), valid)
        compare("v_t with LoRA", v_t, golden["v_t"], TOLERANCE)
        losses = model.loss(openpi.batch, openpi.noise, openpi.time)
        compare("loss per element with LoRA", losses, golden["sq_err"], LOSS_TOLERANCE)
    assert len(receipt.merged) == 20
    assert set(receipt.merged.values()).isdisjoint(receipt.merged)
    assert receipt.notes == (SCALING,)
    assert len(receipt.loaded) == 111


@pytest.mark.parametrize("leaf", ["attn/q_einsum", "attn/kv_einsum_1", "attn/attn_vec_einsum", "mlp_1/linear"])
def test_every_kind_of_lora_leaf_counts(openpi, leaf, tmp_path):
    """With one B set to zero, the golden LoRA network computes something else."""
    with np.load(FOLDER / "tiny_lora" / "params.npz") as archive, \
            np.load(FOLDER / "tiny_lora" / "outputs_f32.npz") as outputs:  # fmt: skip
        params, golden = dict(archive), outputs["sample_actions"]
    name = next(name for name in params if f"layers/{leaf}" in name and name.endswith("lora_b"))
    params[name] = np.zeros_like(params[name])
    np.savez(tmp_path / "params.npz", **params)
    actions = load_model(tmp_path / "params.npz", config=openpi.config).sample_actions(
        openpi.batch, openpi.sample_noise
    )
    assert np.abs(actions.numpy() - golden).max() > TOLERANCE


def test_served_droid_folder(shared, openpi, params):
    """A folder as openpi publishes its checkpoints: params/ and assets/ alone."""
    path = shared / "golden" / "openpi" / "ckpt" / "serve_droid"
    model, receipt = read_model(locate(path), config=openpi.config)
    assert same_leaves(model, dict(params))
    assert receipt.source == str(path)
