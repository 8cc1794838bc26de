"""Axes of the JAX leaves, written out by hand for one parameter of each kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pi05.checkpoint.openpi.jax_names import jax_layout, tidy_name


def test_round_trip_is_exact(config, weights, jax_arrays):
    layout = jax_layout(config)
    back = layout.to_ours({name: torch.from_numpy(array) for name, array in jax_arrays.items()})
    assert back.keys() == weights.keys()
    for name, tensor in back.items():
        assert torch.equal(tensor, weights[name]), name


def test_language_query(config, weights, jax_arrays):
    """openpi: einsum BTD,NDH->BTNH."""
    x = np.random.default_rng(0).normal(size=(config.language_width,)).astype(np.float32)
    leaf = jax_arrays["PaliGemma/llm/layers/attn/q_einsum/w"][1]
    heads = np.einsum("d,ndh->nh", x, leaf)
    ours = weights["language.layers.1.attention.query.weight"] @ torch.from_numpy(x)
    assert ours.numpy() == pytest.approx(heads.reshape(-1), abs=1e-5)


def test_expert_keys_and_values(config, weights, jax_arrays):
    """openpi: einsum BSD,2KDH->2BSKH; keys first."""
    x = np.random.default_rng(0).normal(size=(config.expert_width,)).astype(np.float32)
    leaf = jax_arrays["PaliGemma/llm/layers/attn/kv_einsum_1/w"][0]
    both = np.einsum("d,ckdh->ckh", x, leaf).reshape(2, -1)
    for part, expected in zip(("key", "value"), both, strict=True):
        ours = weights[f"expert.layers.0.attention.{part}.weight"] @ torch.from_numpy(x)
        assert ours.numpy() == pytest.approx(expected, abs=1e-5)


def test_attention_output(config, weights, jax_arrays):
    """openpi: einsum BTNH,NHD->BTD."""
    heads = np.random.default_rng(0).normal(size=(config.num_heads, config.head_dim)).astype(np.float32)
    leaf = jax_arrays["PaliGemma/llm/layers/attn/attn_vec_einsum/w"][0]
    ours = weights["language.layers.0.attention.out.weight"] @ torch.from_numpy(heads.reshape(-1))
    assert ours.numpy() == pytest.approx(np.einsum("nh,nhd->d", heads, leaf), abs=1e-5)


def test_gate_comes_before_up(weights, jax_arrays):
    leaf = jax_arrays["PaliGemma/llm/layers/mlp_1/gating_einsum"][1]
    assert np.array_equal(leaf[0].T, weights["expert.layers.1.mlp.gate.weight"].numpy())
    assert np.array_equal(leaf[1].T, weights["expert.layers.1.mlp.up.weight"].numpy())


def test_vision_attention_keeps_its_heads_as_an_axis(config, weights, jax_arrays):
    prefix = "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/"
    width, heads = config.vision_width, config.vision_heads
    assert jax_arrays[prefix + "query/kernel"].shape == (2, width, heads, width // heads)
    assert jax_arrays[prefix + "query/bias"].shape == (2, heads, width // heads)
    assert jax_arrays[prefix + "out/kernel"].shape == (2, heads, width // heads, width)
    x = np.random.default_rng(0).normal(size=(width,)).astype(np.float32)
    ours = weights["vision.blocks.1.attention.query.weight"] @ torch.from_numpy(x)
    heads_of_x = np.einsum("w,wnh->nh", x, jax_arrays[prefix + "query/kernel"][1])
    assert ours.numpy() == pytest.approx(heads_of_x.reshape(-1), abs=1e-5)


def test_patch_kernel_is_row_column_colour(config, weights, jax_arrays):
    kernel = jax_arrays["PaliGemma/img/embedding/kernel"]
    side = config.patch_size
    assert kernel.shape == (side, side, 3, config.vision_width)
    ours = weights["vision.patch_embedding.weight"]
    assert float(ours[7, (2 * side + 3) * 3 + 1]) == kernel[2, 3, 1, 7]


def test_position_embedding_has_a_leading_one(config, jax_arrays):
    assert jax_arrays["PaliGemma/img/pos_embedding"].shape == (1, config.patches_per_image, config.vision_width)


@pytest.mark.parametrize("written", ["a/b/kernel", "params/a/b/kernel", "a/b/kernel/value", "params/a/b/kernel/value"])
def test_names_with_and_without_wrapping(written):
    assert tidy_name(written) == "a/b/kernel"


def test_a_leaf_called_value_keeps_its_name():
    name = "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/value/kernel"
    assert tidy_name(name) == name
