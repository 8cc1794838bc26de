"""Weights from any readable layout into the network: strictly, tensor by tensor, all or nothing, with a receipt.

Every tensor of the file is loaded, tied, or ignored by name with a reason; every parameter of the network gets a value.
All of that is checked, and every tensor read once, before the network is touched. Peers print a line and go on with
random weights when a load fails; here it is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pi05.checkpoint.jax import jax_layout
from pi05.checkpoint.layout import Layout, Target
from pi05.checkpoint.lerobot import HEADS as LEROBOT_HEADS
from pi05.checkpoint.lerobot import PREFIX, lerobot_layout
from pi05.checkpoint.locate import Location, locate
from pi05.checkpoint.openpi import openpi_layout
from pi05.checkpoint.receipt import Receipt
from pi05.checkpoint.sizes import complete, count_layers, head_sizes, sizes_of_jax, sizes_of_named
from pi05.checkpoint.tensors import TensorFiles, combine_hashes
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05

Shapes = Mapping[str, tuple[int, ...]]

LANGUAGE_LAYER = r"(?:^|\.)language(?:_model)?\.layers\.(\d+)\."
VISION_LAYER = r"(?:^vision\.blocks|vision_model\.encoder\.layers)\.(\d+)\."
NAMES_SHOWN = 6
FREE_SIZES = ("horizon", "max_prompt_tokens")
"""Sizes that no parameter depends on, so that a caller may change them."""


def load_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    config: ModelConfig | None = None,
    compute_dtype: torch.dtype | None = None,
) -> Pi05:
    """Build the network that a checkpoint holds; see `read_model`, which returns the receipt as well."""
    return read_model(path, device, dtype, config, compute_dtype)[0]


def read_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    config: ModelConfig | None = None,
    compute_dtype: torch.dtype | None = None,
) -> tuple[Pi05, Receipt]:
    """Build the network that a checkpoint holds, and say what was read.

    `path`: folder of pi05 (checkpoint or run), LeRobot or openpi PyTorch; one .safetensors file with any of their
    names; an .npz of openpi's JAX parameters. `dtype` is the precision of the parameters, `compute_dtype` that of the
    towers' arithmetic (default: the same). `config` is needed where the file does not tell its head counts. Raises
    CheckpointError for anything that does not fit.
    """
    location = locate(path)
    files = TensorFiles(location.files)
    config = _sizes(location, files.shapes, config)
    with torch.device("meta"):
        model = Pi05(config, compute_dtype=compute_dtype or dtype)
    plan = _plan(_layout(files.shapes, config, location), files.shapes, _parameter_shapes(model), location)
    state: dict[str, Tensor] = {}
    for foreign, targets in plan.reads.items():
        tensor = files.read(foreign)
        for target in targets:
            state[target.name] = target.cut(tensor).to(device, dtype, copy=True, memory_format=torch.contiguous_format)
    model.load_state_dict(state, strict=True, assign=True)
    return model, plan.receipt(location, files, model)


def load_weights(model: Pi05, path: str | Path) -> Receipt:
    """Replace all parameters of `model` by those of the checkpoint at `path`; on an error the model is as it was."""
    location = locate(path)
    files = TensorFiles(location.files)
    _check_told_sizes(location, model.config)
    plan = _plan(_layout(files.shapes, model.config, location), files.shapes, _parameter_shapes(model), location)
    for foreign in plan.reads:
        files.read(foreign)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for foreign, targets in plan.reads.items():
            tensor = files.read(foreign)
            for target in targets:
                parameters[target.name].copy_(target.cut(tensor))
    return plan.receipt(location, files, model)


def read_config(path: str | Path) -> ModelConfig:
    """Return the sizes of the network in a checkpoint, without reading its weights."""
    location = locate(path)
    return _sizes(location, TensorFiles(location.files).shapes, None)


@dataclass(frozen=True)
class _Plan:
    """What to read, and what becomes of the rest."""

    layout: Layout
    reads: Mapping[str, tuple[Target, ...]]
    tied: Mapping[str, str]
    ignored: Mapping[str, str]

    def receipt(self, location: Location, files: TensorFiles, model: nn.Module) -> Receipt:
        hashes = files.hashes()
        names = [target.name for targets in self.reads.values() for target in targets]
        return Receipt(
            source=str(location.path),
            layout=self.layout.title,
            loaded=tuple(name for name in names if name not in self.tied),
            tied=self.tied,
            ignored=self.ignored,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            bytes=files.bytes,
            files=hashes,
            sha256=combine_hashes(hashes),
        )


def _plan(layout: Layout, found: Shapes, ours: Shapes, location: Location) -> _Plan:
    """Account for every tensor. Raises CheckpointError listing what is missing, unexpected or misshaped."""
    stand_ins = {wanted: name for name, wanted in layout.stand_ins.items() if name in found and wanted not in found}
    reads: dict[str, tuple[Target, ...]] = {}
    tied: dict[str, str] = {}
    missing, misshaped = [], []
    for wanted, shape in layout.foreign_shapes(ours).items():
        name = stand_ins.get(wanted, wanted)
        if name not in found:
            missing.append(name)
        elif found[name] != shape:
            misshaped.append(f"{name} is {list(found[name])}, not {list(shape)}")
        else:
            reads[name] = layout.targets[wanted]
            if name != wanted:
                tied.update({target.name: name for target in layout.targets[wanted]})
    ignored = {name: reason for name, reason in layout.dead.items() if name in found and name not in reads}
    known = {*layout.targets, *layout.dead}
    unexpected = [name for name in found if name not in known]
    faults = [
        f"{len(names)} {title}: {_some(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped))
        if names
    ]
    if faults:
        raise CheckpointError(
            "the weights do not fit the network; nothing was loaded",
            wanted=f"the {len(layout.targets)} tensors of a {layout.title} checkpoint of these sizes",
            found=f"{location.path}: " + "; ".join(faults),
            remedy=_remedy(unexpected),
        )
    return _Plan(layout, reads, tied, ignored)


def _remedy(unexpected: list[str]) -> str:
    if any("state_proj" in name or "action_time_mlp" in name for name in unexpected):
        return "this is a π₀ checkpoint; use one of π₀.₅"
    if any("lora" in name for name in unexpected):
        return "merge the LoRA weights into their base first; they cannot be read yet"
    return "use a checkpoint of the same sizes that was written completely"


def _layout(found: Shapes, config: ModelConfig, location: Location) -> Layout:
    """Tell the layout by its names."""
    kind = _kind(found, location)
    if kind == "jax":
        return jax_layout(config)
    if kind == "pi05":
        with torch.device("meta"):
            return Layout.ours(name for name, _ in Pi05(config).named_parameters())
    make = lerobot_layout if kind == "lerobot" else openpi_layout
    return make(config.depth, config.vision_depth)


def _kind(found: Shapes, location: Location) -> str:
    if any(name.startswith("PaliGemma/") for name in found):
        return "jax"
    if any(name.startswith(PREFIX + "paligemma_with_expert.") for name in found):
        return "lerobot"
    if any(name.startswith("paligemma_with_expert.") for name in found):
        return "openpi"
    if any(name.startswith(("vision.", "language.layers.", "expert.layers.")) for name in found):
        return "pi05"
    raise CheckpointError(
        "the file holds no π₀.₅ weights",
        wanted="tensor names of pi05, LeRobot or openpi",
        found=f"{location.path} with {len(found)} tensors: {_some(list(found))}",
        remedy="give a π₀.₅ checkpoint",
    )


def _sizes(location: Location, found: Shapes, config: ModelConfig | None) -> ModelConfig:
    """Decide the sizes: the caller's, the folder's, or what the shapes tell."""
    if config is not None:
        _check_told_sizes(location, config)
        return config
    if location.config is not None:
        return location.config
    kind = _kind(found, location)
    try:
        return complete({**_sizes_from_shapes(kind, found), **location.sizes}, str(location.path))
    except (IndexError, ValueError) as error:
        raise CheckpointError(
            "the shapes in the checkpoint are not those of π₀.₅",
            found=f"{location.path}: {error}",
            remedy="give a π₀.₅ checkpoint that was written completely",
        ) from error


def _sizes_from_shapes(kind: str, found: Shapes) -> dict[str, int]:
    if kind == "jax":
        return sizes_of_jax(found)
    depth, vision_depth = count_layers(found, LANGUAGE_LAYER), count_layers(found, VISION_LAYER)
    if kind == "pi05":
        with torch.device("meta"):
            smallest = ModelConfig(depth=max(depth, 1), vision_depth=max(vision_depth, 1))
            layout = Layout.ours(name for name, _ in Pi05(smallest).named_parameters())
    else:
        layout = (lerobot_layout if kind == "lerobot" else openpi_layout)(depth, vision_depth)
    sizes = sizes_of_named(layout, found, depth, vision_depth)
    heads = LEROBOT_HEADS if kind == "lerobot" else None
    return {**sizes, **head_sizes(layout, found, sizes["vision_width"], heads)}


def _check_told_sizes(location: Location, config: ModelConfig) -> None:
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


def _parameter_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
