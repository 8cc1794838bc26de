"""LoRA leaves of openpi: merged, the network computes what openpi's einsums with LoRA compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pi05.checkpoint.load import read_model
from pi05.checkpoint.locate import locate
from pi05.checkpoint.openpi.jax_lora import SCALING, with_lora_merged
from pi05.checkpoint.tensors import TensorFiles
from pi05.errors import CheckpointError

LAYERS = "PaliGemma/llm/layers/"
RANK = 3


@pytest.fixture
def lora(config) -> dict[str, np.ndarray]:
    """Every LoRA leaf that openpi knows, for both experts."""
    rng = np.random.default_rng(1)
    depth, heads, kv, head_dim = config.depth, config.num_heads, config.num_kv_heads, config.head_dim
    leaves: dict[str, np.ndarray] = {}

    def pair(stem: str, leading: tuple[int, ...], inputs: int, outputs: int) -> None:
        leaves[stem + "lora_a"] = rng.normal(size=(*leading, inputs, RANK)).astype(np.float32)
        leaves[stem + "lora_b"] = rng.normal(size=(*leading, RANK, outputs)).astype(np.float32)

    experts = {"": (config.language_width, config.language_mlp), "_1": (config.expert_width, config.expert_mlp)}
    for suffix, (width, mlp) in experts.items():
        pair(f"{LAYERS}attn/q_einsum{suffix}/", (depth, heads), width, head_dim)
        pair(f"{LAYERS}attn/kv_einsum{suffix}/", (depth, 2, kv), width, head_dim)
        pair(f"{LAYERS}attn/attn_vec_einsum{suffix}/", (depth, heads), head_dim, width)
        pair(f"{LAYERS}mlp{suffix}/gating_einsum_", (depth, 2), width, mlp)
        pair(f"{LAYERS}mlp{suffix}/linear_", (depth,), mlp, width)
    return leaves


def save(path: Path, *groups: dict[str, np.ndarray]) -> Path:
    np.savez(path, **{name: value for group in groups for name, value in group.items()})
    return path


@pytest.fixture
def path(tmp_path, jax_arrays, lora) -> Path:
    return save(tmp_path / "params.npz", jax_arrays, lora)


def test_language_query(path, config, jax_arrays, lora):
    """openpi: BTD,NDH->BTNH, then BTD,NDL->BTNL and BTNL,NLH->BTNH."""
    model, _ = read_model(locate(path), config=config)
    x = np.random.default_rng(0).normal(size=(config.language_width,))
    leaf = LAYERS + "attn/q_einsum/"
    plain = np.einsum("d,ndh->nh", x, jax_arrays[leaf + "w"][1])
    low = np.einsum("nl,nlh->nh", np.einsum("d,ndl->nl", x, lora[leaf + "lora_a"][1]), lora[leaf + "lora_b"][1])
    ours = model.language.layers[1].attention.query.weight.double() @ torch.from_numpy(x)
    assert ours.detach().numpy() == pytest.approx((plain + low).ravel(), abs=1e-4)


def test_expert_keys_and_values(path, config, jax_arrays, lora):
    """openpi: BSD,2KDH->2BSKH, then BSD,2KDL->2BSKL and 2BSKL,2KLH->2BSKH."""
    model, _ = read_model(locate(path), config=config)
    x = np.random.default_rng(0).normal(size=(config.expert_width,))
    leaf = LAYERS + "attn/kv_einsum_1/"
    plain = np.einsum("d,ckdh->ckh", x, jax_arrays[leaf + "w"][0])
    low = np.einsum("ckl,cklh->ckh", np.einsum("d,ckdl->ckl", x, lora[leaf + "lora_a"][0]), lora[leaf + "lora_b"][0])
    attention = model.expert.layers[0].attention
    for part, expected in zip((attention.key, attention.value), plain + low, strict=True):
        ours = part.weight.double() @ torch.from_numpy(x)
        assert ours.detach().numpy() == pytest.approx(expected.ravel(), abs=1e-4)


@pytest.mark.parametrize(("suffix", "tower"), [("", "language"), ("_1", "expert")])
def test_attention_output_sums_over_the_heads_twice(path, config, jax_arrays, lora, suffix, tower):
    """openpi: BTNH,NHD->BTD, then BTNH,NHL->BTL and BTL,NLD->BTD."""
    model, _ = read_model(locate(path), config=config)
    x = np.random.default_rng(0).normal(size=(config.num_heads, config.head_dim))
    leaf = f"{LAYERS}attn/attn_vec_einsum{suffix}/"
    plain = np.einsum("nh,nhd->d", x, jax_arrays[leaf + "w"][1])
    low = np.einsum("l,nld->d", np.einsum("nh,nhl->l", x, lora[leaf + "lora_a"][1]), lora[leaf + "lora_b"][1])
    layer = getattr(model, tower).layers[1]
    ours = layer.attention.out.weight.double() @ torch.from_numpy(x.ravel())
    assert ours.detach().numpy() == pytest.approx(plain + low, abs=1e-3)


def test_feed_forward(path, config, jax_arrays, lora):
    model, _ = read_model(locate(path), config=config)
    mlp = model.expert.layers[1].mlp
    for name, index, linear in (("gating_einsum", (1, 0), mlp.gate), ("gating_einsum", (1, 1), mlp.up),
                                ("linear", (1,), mlp.down)):  # fmt: skip
        leaf = f"{LAYERS}mlp_1/{name}"
        a, b = lora[leaf + "_lora_a"][index].astype(np.float64), lora[leaf + "_lora_b"][index].astype(np.float64)
        expected = jax_arrays[leaf][index] + a @ b
        assert linear.weight.detach().numpy() == pytest.approx(expected.T, abs=1e-5)


def test_receipt_names_every_leaf_once(path, config, jax_arrays, lora):
    model, receipt = read_model(locate(path), config=config)
    assert set(receipt.merged) == set(lora)
    assert set(receipt.merged.values()) <= set(jax_arrays)
    assert receipt.merged[LAYERS + "attn/q_einsum/lora_a"] == LAYERS + "attn/q_einsum/w"
    assert receipt.merged[LAYERS + "mlp_1/linear_lora_b"] == LAYERS + "mlp_1/linear"
    assert receipt.notes == (SCALING,)
    assert len(receipt.loaded) == len(list(model.parameters()))
    assert f"merged  {len(lora)} LoRA leaves" in receipt.render()


def test_a_base_in_bfloat16_is_merged_in_float32(path, tmp_path, config, jax_arrays, lora):
    """openpi keeps the frozen weights of a LoRA run in bfloat16; the sum must not be rounded to that."""
    rounded = {name: torch.from_numpy(value).bfloat16().float().numpy() for name, value in jax_arrays.items()}
    expected, _ = read_model(locate(save(tmp_path / "rounded.npz", rounded, lora)), config=config)
    tensors = {name: torch.from_numpy(value).bfloat16() for name, value in jax_arrays.items()}
    tensors |= {name: torch.from_numpy(value) for name, value in lora.items()}
    save_file(tensors, tmp_path / "half.safetensors")
    model, _ = read_model(locate(tmp_path / "half.safetensors"), config=config)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_one_expert_alone_may_have_lora(tmp_path, config, jax_arrays, lora, weights):
    part = {name: value for name, value in lora.items() if "_1/" in name}
    model, receipt = read_model(locate(save(tmp_path / "params.npz", jax_arrays, part)), config=config)
    assert set(receipt.merged) == set(part)
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, weights[name])}
    assert changed == {name for name in weights if name.startswith("expert.layers") and ".modulation" not in name}


def test_without_lora_the_source_is_itself(tmp_path, jax_arrays):
    source = TensorFiles([save(tmp_path / "params.npz", jax_arrays)])
    assert with_lora_merged(source) is source


@pytest.mark.parametrize("leaf", ["attn/q_einsum/lora_a", "attn/attn_vec_einsum_1/lora_b", "mlp/gating_einsum_lora_a"])
@pytest.mark.parametrize("fault", ["half a pair", "no base", "rank", "width"])
def test_what_does_not_fit(tmp_path, config, jax_arrays, lora, leaf, fault):
    name = LAYERS + leaf
    other = name[:-1] + ("b" if name.endswith("a") else "a")
    base = (name.rpartition("/")[0] + "/w") if "/lora" in name else name.replace("_lora_a", "")
    axis = -1 if name.endswith("a") else -2
    if fault == "half a pair":
        del lora[other]
        expected = f"{name} without {other.rpartition('/')[2]}"
    elif fault == "no base":
        del jax_arrays[base]
        expected = f"without its base {base}"
    else:
        lora[name] = np.take(lora[name], [0, 1], axis=axis if fault == "rank" else -3 - axis)
        expected = f"of {base}"
    path = save(tmp_path / "params.npz", jax_arrays, lora)
    with pytest.raises(CheckpointError, match="LoRA leaves of the openpi checkpoint do not fit") as caught:
        read_model(locate(path), config=config)
    assert expected in str(caught.value)


def test_a_leaf_that_is_not_finite(tmp_path, config, jax_arrays, lora):
    lora[LAYERS + "mlp/linear_lora_a"][1, 2, 0] = np.nan
    with pytest.raises(CheckpointError, match="linear_lora_a is not finite"):
        read_model(locate(save(tmp_path / "params.npz", jax_arrays, lora)), config=config)
