"""The sizes of the network, from the shapes in a file.

Every size but the head counts of PyTorch files can be read off a tensor: their attention weights have the heads
folded into one axis. Those are known for π₀.₅'s own widths, and LeRobot has its head count built in. Otherwise the
caller must tell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from pi05.checkpoint.openpi import jax_names
from pi05.checkpoint.tensor_map import TensorLayout
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig, pi05

Shape = tuple[int, ...]


def count_layers(names: Iterable[str], pattern: str) -> int:
    """Return one more than the highest number that `pattern` captures in `names`; 0 when it occurs nowhere."""
    found = (re.search(pattern, name) for name in names)
    return max((int(match.group(1)) + 1 for match in found if match), default=0)


def sizes_of_named(layout: TensorLayout, shapes: Mapping[str, Shape], depth: int, vision_depth: int) -> dict[str, int]:
    """Return the sizes in a file with one tensor for each of ours; head counts are not among them."""
    ours = {
        targets[0].name: shapes.get(foreign, shapes.get(_stand_in(layout, foreign)))
        for foreign, targets in layout.targets.items()
    }

    def shape(name: str) -> Shape:
        found = ours.get(name)
        if found is None:
            raise missing_tensor(layout.title, name)
        return found

    language = "language.layers.0."
    patch = shape("vision.patch_embedding.weight")
    patch_size = math.isqrt(math.prod(patch[1:]) // 3)
    return {
        "image_size": patch_size * math.isqrt(shape("vision.position_embedding")[0]),
        "patch_size": patch_size,
        "vision_width": patch[0],
        "vision_depth": vision_depth,
        "vision_mlp": shape("vision.blocks.0.mlp.up.weight")[0],
        "vocab_size": shape("embedding.weight")[0],
        "language_width": shape("embedding.weight")[1],
        "language_mlp": shape(language + "mlp.gate.weight")[0],
        "expert_width": shape("action_in.weight")[0],
        "expert_mlp": shape("expert.layers.0.mlp.gate.weight")[0],
        "depth": depth,
        "action_dim": shape("action_in.weight")[1],
    }


def head_sizes(
    layout: TensorLayout, shapes: Mapping[str, Shape], vision_width: int, heads: int | None
) -> dict[str, int]:
    """Return the head counts of a PyTorch file as far as certain; `heads` where its writer has them built in."""
    ours = {targets[0].name: shapes[foreign] for foreign, targets in layout.targets.items() if foreign in shapes}
    name = "language.layers.0.attention."
    query, key = ours.get(name + "query.weight"), ours.get(name + "key.weight")
    if query is None or key is None:
        raise missing_tensor(layout.title, name + "query.weight")
    full = pi05()
    sizes: dict[str, int] = {}
    if vision_width == full.vision_width:
        sizes["vision_heads"] = full.vision_heads
    if (query[0], key[0]) == (full.num_heads * full.head_dim, full.num_kv_heads * full.head_dim) and heads is None:
        heads = full.num_heads
    if heads is not None and query[0] % heads == 0 and key[0] % (query[0] // heads) == 0:
        head_dim = query[0] // heads
        sizes.update(num_heads=heads, head_dim=head_dim, num_kv_heads=key[0] // head_dim)
    return sizes


def sizes_of_jax(shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Return all sizes that openpi's JAX leaves tell: everything but horizon and prompt length."""

    def shape(leaf: str) -> Shape:
        if leaf not in shapes:
            raise missing_tensor("openpi JAX", leaf)
        return shapes[leaf]

    blocks = jax_names.IMAGE + "Transformer/encoderblock/"
    layers = jax_names.LANGUAGE + "layers/"
    patch = shape(jax_names.IMAGE + "embedding/kernel")
    depth, heads, width, head_dim = shape(layers + "attn/q_einsum/w")
    vision_depth, vision_width, vision_heads, _ = shape(blocks + "MultiHeadDotProductAttention_0/query/kernel")
    return {
        "image_size": patch[0] * math.isqrt(shape(jax_names.IMAGE + "pos_embedding")[1]),
        "patch_size": patch[0],
        "vision_width": vision_width,
        "vision_depth": vision_depth,
        "vision_mlp": shape(blocks + "MlpBlock_0/Dense_0/kernel")[2],
        "vision_heads": vision_heads,
        "vocab_size": shape(jax_names.LANGUAGE + "embedder/input_embedding")[0],
        "language_width": width,
        "language_mlp": shape(layers + "mlp/gating_einsum")[3],
        "expert_width": shape("action_in_proj/kernel")[1],
        "expert_mlp": shape(layers + "mlp_1/gating_einsum")[3],
        "depth": depth,
        "num_heads": heads,
        "num_kv_heads": shape(layers + "attn/kv_einsum/w")[2],
        "head_dim": head_dim,
        "action_dim": shape("action_in_proj/kernel")[0],
    }


def complete(sizes: Mapping[str, int], path: str) -> ModelConfig:
    """Build the configuration. Raises CheckpointError when the file left head counts open."""
    needed = {"vision_heads", "num_heads", "num_kv_heads", "head_dim"}
    unknown = sorted(needed - set(sizes))
    if unknown:
        known = ", ".join(f"{name}={value}" for name, value in sizes.items())
        raise CheckpointError(
            "the file does not tell how many attention heads the network has",
            wanted=", ".join(unknown),
            found=f"{path} with {known}",
            remedy="give the sizes: load_model(path, config=ModelConfig(...))",
        )
    return ModelConfig(**sizes)


def missing_tensor(title: str, name: str) -> CheckpointError:
    """Return the error for a file without a tensor that every such file has."""
    return CheckpointError(
        f"the {title} checkpoint is incomplete",
        wanted=name,
        found="no such tensor",
        remedy="copy or download the checkpoint again",
    )


def _stand_in(layout: TensorLayout, foreign: str) -> str:
    """Return the name whose tensor may take the place of `foreign`; itself when there is none."""
    return next((name for name, other in layout.stand_ins.items() if other == foreign), foreign)
