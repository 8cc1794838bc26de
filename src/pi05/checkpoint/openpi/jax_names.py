"""Leaf names and axes of openpi's JAX parameters, from and to ours.

Names follow openpi `models/pi0.py` (nnx tree, joined with "/"); axes follow flax: kernels are [in, out], layers are
stacked on a leading axis, attention keeps its heads as an axis. No part of JAX is needed. openpi's checkpoint folders
are read next door (`orbax.py`), and LoRA leaves are merged before these names are looked at (`jax_lora.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from pi05.checkpoint.tensor_map import Change, TensorLayout, TensorTarget
from pi05.model.config import ModelConfig

IMAGE = "PaliGemma/img/"
LANGUAGE = "PaliGemma/llm/"
PROJECTIONS = {
    "action_in_proj": "action_in",
    "action_out_proj": "action_out",
    "time_mlp_in": "time_in",
    "time_mlp_out": "time_out",
}

Leaf = tuple[str, TensorTarget]


def jax_layout(config: ModelConfig) -> TensorLayout:
    """Return the layout of openpi's JAX parameters for a network of these sizes."""
    targets: dict[str, tuple[TensorTarget, ...]] = {}
    for leaf, target in _leaves(config):
        targets[leaf] = (*targets.get(leaf, ()), target)
    return TensorLayout("openpi JAX", targets)


def tidy_name(name: str) -> str:
    """Return a leaf's name without the leading "params" and the trailing "value" that some writers add."""
    return name.removeprefix("params/").removesuffix("/value")


def _leaves(config: ModelConfig) -> Iterator[Leaf]:
    """Yield (leaf, our parameter in it) for every parameter."""
    yield from _vision_leaves(config)
    yield LANGUAGE + "embedder/input_embedding", TensorTarget("embedding.weight")
    for layer in range(config.depth):
        yield from _gemma_leaves(config, layer, "language", "")
        yield from _gemma_leaves(config, layer, "expert", "_1")
        for leaf, ours in (("pre_attention_norm", "attention_norm"), ("pre_ffw_norm", "mlp_norm")):
            scale = f"language.layers.{layer}.{ours}.scale"
            yield f"{LANGUAGE}layers/{leaf}/scale", TensorTarget(scale, (layer,))
            modulation = f"expert.layers.{layer}.{ours}.modulation"
            yield from _dense(f"{LANGUAGE}layers/{leaf}_1/Dense_0", modulation, (layer,))
    yield LANGUAGE + "final_norm/scale", TensorTarget("language.norm.scale")
    yield from _dense(LANGUAGE + "final_norm_1/Dense_0", "expert.norm.modulation")
    for leaf, ours in PROJECTIONS.items():
        yield from _dense(leaf, ours)


def _vision_leaves(config: ModelConfig) -> Iterator[Leaf]:
    heads, head_dim = config.vision_heads, config.vision_width // config.vision_heads
    side = config.patch_size
    yield IMAGE + "embedding/kernel", TensorTarget("vision.patch_embedding.weight", (), *_patch_kernel(side))
    yield IMAGE + "embedding/bias", TensorTarget("vision.patch_embedding.bias")
    yield IMAGE + "pos_embedding", TensorTarget("vision.position_embedding", (0,))
    for block in range(config.vision_depth):
        leaf, ours, index = f"{IMAGE}Transformer/encoderblock/", f"vision.blocks.{block}.", (block,)
        for number in (0, 1):
            yield from _norm(f"{leaf}LayerNorm_{number}", f"{ours}norm{number + 1}", index)
        yield from _dense(leaf + "MlpBlock_0/Dense_0", ours + "mlp.up", index)
        yield from _dense(leaf + "MlpBlock_0/Dense_1", ours + "mlp.down", index)
        attention = leaf + "MultiHeadDotProductAttention_0/"
        for part in ("query", "key", "value"):
            name = f"{ours}attention.{part}"
            yield f"{attention}{part}/kernel", TensorTarget(name + ".weight", index, *_split_outputs(heads, head_dim))
            yield f"{attention}{part}/bias", TensorTarget(name + ".bias", index, *_split_bias(heads, head_dim))
        out = f"{ours}attention.out"
        yield f"{attention}out/kernel", TensorTarget(out + ".weight", index, *_split_inputs(heads, head_dim))
        yield f"{attention}out/bias", TensorTarget(out + ".bias", index)
    yield from _norm(IMAGE + "Transformer/encoder_norm", "vision.norm")
    yield from _dense(IMAGE + "head", "vision.head")


def _gemma_leaves(config: ModelConfig, layer: int, tower: str, suffix: str) -> Iterator[Leaf]:
    """Yield attention and MLP of one layer; openpi marks the expert's leaves with the suffix "_1"."""
    leaf, ours = f"{LANGUAGE}layers/", f"{tower}.layers.{layer}."
    queries = _heads_first(config.num_heads, config.head_dim)
    keys = _heads_first(config.num_kv_heads, config.head_dim)
    out = _split_inputs(config.num_heads, config.head_dim)
    yield f"{leaf}attn/q_einsum{suffix}/w", TensorTarget(ours + "attention.query.weight", (layer,), *queries)
    yield f"{leaf}attn/kv_einsum{suffix}/w", TensorTarget(ours + "attention.key.weight", (layer, 0), *keys)
    yield f"{leaf}attn/kv_einsum{suffix}/w", TensorTarget(ours + "attention.value.weight", (layer, 1), *keys)
    yield f"{leaf}attn/attn_vec_einsum{suffix}/w", TensorTarget(ours + "attention.out.weight", (layer,), *out)
    yield f"{leaf}mlp{suffix}/gating_einsum", TensorTarget(ours + "mlp.gate.weight", (layer, 0), _swap, _swap)
    yield f"{leaf}mlp{suffix}/gating_einsum", TensorTarget(ours + "mlp.up.weight", (layer, 1), _swap, _swap)
    yield f"{leaf}mlp{suffix}/linear", TensorTarget(ours + "mlp.down.weight", (layer,), _swap, _swap)


def _dense(leaf: str, ours: str, index: tuple[int, ...] = ()) -> Iterator[Leaf]:
    yield f"{leaf}/kernel", TensorTarget(f"{ours}.weight", index, _swap, _swap)
    yield f"{leaf}/bias", TensorTarget(f"{ours}.bias", index)


def _norm(leaf: str, ours: str, index: tuple[int, ...] = ()) -> Iterator[Leaf]:
    yield f"{leaf}/scale", TensorTarget(f"{ours}.weight", index)
    yield f"{leaf}/bias", TensorTarget(f"{ours}.bias", index)


def _swap(kernel: Tensor) -> Tensor:
    """[in, out] ↔ [out, in]."""
    return kernel.T


def _patch_kernel(side: int) -> tuple[Change, Change]:
    """[row, column, colour, out] ↔ [out, row·column·colour]."""
    return lambda kernel: kernel.flatten(0, 2).T, lambda weight: weight.T.unflatten(0, (side, side, 3))


def _split_outputs(heads: int, head_dim: int) -> tuple[Change, Change]:
    """[in, heads, head_dim] ↔ [heads·head_dim, in]."""
    return lambda kernel: kernel.flatten(1).T, lambda weight: weight.T.unflatten(1, (heads, head_dim))


def _split_bias(heads: int, head_dim: int) -> tuple[Change, Change]:
    """[heads, head_dim] ↔ [heads·head_dim]."""
    return lambda bias: bias.flatten(), lambda bias: bias.unflatten(0, (heads, head_dim))


def _split_inputs(heads: int, head_dim: int) -> tuple[Change, Change]:
    """[heads, head_dim, out] ↔ [out, heads·head_dim]."""
    return lambda kernel: kernel.flatten(0, 1).T, lambda weight: weight.T.unflatten(0, (heads, head_dim))


def _heads_first(heads: int, head_dim: int) -> tuple[Change, Change]:
    """[heads, in, head_dim] ↔ [heads·head_dim, in]."""
    return (
        lambda kernel: kernel.transpose(1, 2).flatten(0, 1),
        lambda weight: weight.unflatten(0, (heads, head_dim)).transpose(1, 2),
    )
