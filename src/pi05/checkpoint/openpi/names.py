"""Tensor names of openpi's PyTorch checkpoints (`model.safetensors`); LeRobot's are the same behind a prefix.

Names follow openpi `models_pytorch/pi0_pytorch.py` and `gemma_pytorch.py`; axes are ours but for the
patch embedding, a convolution there and a linear map over (row, column, colour) here.
Two tensors are dead: the language head of the expert, and that of the language model, which openpi ties to the token
embedding: its files then hold the head and leave the embedding out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from pi05.checkpoint.tensor_map import TensorLayout, TensorTarget

PALIGEMMA = "paligemma_with_expert.paligemma.model."
TOWER = PALIGEMMA + "vision_tower.vision_model."
PATCHES = TOWER + "embeddings.patch_embedding.weight"
EXPERT = "paligemma_with_expert.gemma_expert.model."
EMBEDDING = PALIGEMMA + "language_model.embed_tokens.weight"
LANGUAGE_HEAD = "paligemma_with_expert.paligemma.lm_head.weight"
EXPERT_HEAD = "paligemma_with_expert.gemma_expert.lm_head.weight"
UNUSED = "not used by π₀.₅"

VISION_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.out",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}
GEMMA_LAYER = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.out",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}
GEMMA_NORM = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm"}
PROJECTIONS = {
    "action_in_proj": "action_in",
    "action_out_proj": "action_out",
    "time_mlp_in": "time_in",
    "time_mlp_out": "time_out",
}


def openpi_layout(depth: int, vision_depth: int, prefix: str = "", title: str = "openpi PyTorch") -> TensorLayout:
    """Return the layout of an openpi PyTorch file; `prefix` stands before every name (LeRobot: "model.")."""
    targets = {prefix + foreign: (TensorTarget(ours),) for foreign, ours in _names(depth, vision_depth)}
    targets[prefix + PATCHES] = (TensorTarget("vision.patch_embedding.weight", (), _from_convolution, _to_convolution),)
    return TensorLayout(
        title,
        targets,
        stand_ins={prefix + LANGUAGE_HEAD: prefix + EMBEDDING},
        dead={prefix + LANGUAGE_HEAD: UNUSED, prefix + EXPERT_HEAD: UNUSED},
    )


def _names(depth: int, vision_depth: int) -> Iterator[tuple[str, str]]:
    """Yield (foreign name, our name) for every parameter."""
    yield from _vision_names(vision_depth)
    yield EMBEDDING, "embedding.weight"
    for layer in range(depth):
        for foreign, ours in GEMMA_LAYER.items():
            yield f"{PALIGEMMA}language_model.layers.{layer}.{foreign}.weight", f"language.layers.{layer}.{ours}.weight"
            yield f"{EXPERT}layers.{layer}.{foreign}.weight", f"expert.layers.{layer}.{ours}.weight"
        for foreign, ours in GEMMA_NORM.items():
            yield f"{PALIGEMMA}language_model.layers.{layer}.{foreign}.weight", f"language.layers.{layer}.{ours}.scale"
            yield from _both(f"{EXPERT}layers.{layer}.{foreign}.dense", f"expert.layers.{layer}.{ours}.modulation")
    yield f"{PALIGEMMA}language_model.norm.weight", "language.norm.scale"
    yield from _both(f"{EXPERT}norm.dense", "expert.norm.modulation")
    for foreign, ours in PROJECTIONS.items():
        yield from _both(foreign, ours)


def _vision_names(vision_depth: int) -> Iterator[tuple[str, str]]:
    yield from _both(TOWER + "embeddings.patch_embedding", "vision.patch_embedding")
    yield TOWER + "embeddings.position_embedding.weight", "vision.position_embedding"
    for block in range(vision_depth):
        for foreign, ours in VISION_BLOCK.items():
            yield from _both(f"{TOWER}encoder.layers.{block}.{foreign}", f"vision.blocks.{block}.{ours}")
    yield from _both(TOWER + "post_layernorm", "vision.norm")
    yield from _both(PALIGEMMA + "multi_modal_projector.linear", "vision.head")


def _both(foreign: str, ours: str) -> Iterator[tuple[str, str]]:
    """Yield the names of a weight and its bias."""
    for part in ("weight", "bias"):
        yield f"{foreign}.{part}", f"{ours}.{part}"


def _from_convolution(kernel: Tensor) -> Tensor:
    """[out, colour, row, column] → [out, row·column·colour]."""
    return kernel.permute(0, 2, 3, 1).flatten(1)


def _to_convolution(weight: Tensor) -> Tensor:
    """[out, row·column·colour] → [out, colour, row, column]."""
    side = math.isqrt(weight.shape[1] // 3)
    return weight.unflatten(1, (side, side, 3)).permute(0, 3, 1, 2)
