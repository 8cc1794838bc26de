"""Full weights from a located checkpoint into the network: tensor by tensor, all or nothing, with a receipt.

Decides the sizes: the caller's, the folder's, or what the shapes tell. Memory is that of the network and at most one
copy of the largest tensor: safetensors files are mapped, stacked leaves of orbax are read layer by layer.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pi05.checkpoint.accounting import plan_load, tell_names
from pi05.checkpoint.lerobot.names import QUERY_HEADS, lerobot_layout
from pi05.checkpoint.locate import Location
from pi05.checkpoint.openpi.jax_lora import with_lora_merged
from pi05.checkpoint.openpi.names import openpi_layout
from pi05.checkpoint.openpi.orbax import OrbaxFiles
from pi05.checkpoint.receipt import Receipt
from pi05.checkpoint.sizes import complete, count_layers, head_sizes, sizes_of_jax, sizes_of_named
from pi05.checkpoint.tensor_map import TensorLayout
from pi05.checkpoint.tensors import Shapes, TensorFiles, TensorSource
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05

LANGUAGE_LAYER = r"(?:^|\.)language(?:_model)?\.layers\.(\d+)\."
VISION_LAYER = r"(?:^vision\.blocks|vision_model\.encoder\.layers)\.(\d+)\."
FREE_SIZES = ("horizon", "max_prompt_tokens")
"""Sizes that no parameter depends on, so that a caller may change them."""


def open_tensors(location: Location) -> TensorSource:
    """Open the weights of a checkpoint: names and shapes are read, values are not. LoRA leaves of openpi merge."""
    source: TensorSource
    if location.orbax is not None:
        source = OrbaxFiles(location.orbax)
    else:
        source = TensorFiles(location.files, location.index)
    return with_lora_merged(source)


def read_full(
    location: Location,
    device: torch.device | str,
    dtype: torch.dtype,
    config: ModelConfig | None,
    compute_dtype: torch.dtype | None,
) -> tuple[Pi05, Receipt]:
    """Build the network that full weights hold, and say what was read."""
    source = open_tensors(location)
    config = decide_sizes(location, source.shapes, config)
    with torch.device("meta"):
        model = Pi05(config, compute_dtype=compute_dtype or dtype)
    plan = plan_load(source.shapes, config, model, location)
    state: dict[str, Tensor] = {}
    for foreign, targets in plan.reads.items():
        parts = source.parts(foreign, [target.index for target in targets])
        for target in targets:  # no name for the part, which would keep it while the next one is read
            state[target.name] = target.to_ours(next(parts)).to(
                device, dtype, copy=True, memory_format=torch.contiguous_format
            )
    model.load_state_dict(state, strict=True, assign=True)
    return model, plan.receipt(location, source, model)


def decide_sizes(location: Location, found: Shapes, config: ModelConfig | None) -> ModelConfig:
    """Return the sizes. Raises CheckpointError when nobody tells them, or two tell different ones."""
    if config is not None:
        check_told_sizes(location, config)
    config = config or location.config
    if config is not None:
        require_layers(config.depth + config.vision_depth, found, location)
        return config
    names = tell_names(found, location)
    try:
        require_layers(count_layers(found, LANGUAGE_LAYER) + count_layers(found, VISION_LAYER), found, location)
        return complete({**sizes_from_shapes(names, found), **location.sizes}, str(location.path))
    except (IndexError, ValueError) as error:
        raise CheckpointError(
            "the shapes in the checkpoint are not those of π₀.₅",
            found=f"{location.path}: {error}",
            remedy="give a π₀.₅ checkpoint that was written completely",
        ) from error


def sizes_from_shapes(names: str, found: Shapes) -> dict[str, int]:
    """Return the sizes that a file with these tensor names (see `tell_names`) tells."""
    if names == "jax":
        return sizes_of_jax(found)
    depth, vision_depth = count_layers(found, LANGUAGE_LAYER), count_layers(found, VISION_LAYER)
    if names == "pi05":
        with torch.device("meta"):
            smallest = ModelConfig(depth=max(depth, 1), vision_depth=max(vision_depth, 1))
            layout = TensorLayout.ours(name for name, _ in Pi05(smallest).named_parameters())
    else:
        layout = (lerobot_layout if names == "lerobot" else openpi_layout)(depth, vision_depth)
    sizes = sizes_of_named(layout, found, depth, vision_depth)
    heads = QUERY_HEADS if names == "lerobot" else None
    return {**sizes, **head_sizes(layout, found, sizes["vision_width"], heads)}


def require_layers(layers: int, found: Shapes, location: Location) -> None:
    """Raise CheckpointError for more layers than there are tensors, before a network of that depth is laid out.

    Stacked layers of JAX are leaves of one tensor for all; their depth is a length in its shape.
    """
    stacked = max((shape[0] for name, shape in found.items() if name.startswith("PaliGemma/") and shape), default=0)
    if layers > max(len(found), 2 * stacked):
        raise CheckpointError(
            "the checkpoint tells of more layers than it has tensors",
            wanted=f"at most {len(found)} layers, as many as there are tensors",
            found=f"{layers:,} in {location.path}",
            remedy="restore config.json, or copy the checkpoint again",
        )


def check_told_sizes(location: Location, config: ModelConfig) -> None:
    """Refuse sizes that contradict the folder's own; head counts do not show in any shape."""
    if location.config is None:
        return
    free = {name: getattr(config, name) for name in FREE_SIZES}
    if replace(location.config, **free) != config:
        told, asked = location.config.to_dict(), config.to_dict()
        differ = [name for name in told if told[name] != asked[name] and name not in FREE_SIZES]
        raise CheckpointError(
            "the network has other sizes than the checkpoint",
            wanted=", ".join(f"{name}={asked[name]}" for name in differ),
            found=", ".join(f"{name}={told[name]}" for name in differ) + f" in {location.path}",
            remedy="leave the sizes to the checkpoint, or use another one",
        )
