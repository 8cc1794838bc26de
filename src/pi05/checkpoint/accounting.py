"""What to read from a weight file, and what becomes of the rest: every tensor and every parameter accounted for once.

Decided from names and shapes alone, before any value is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from pi05.checkpoint.lerobot.names import PREFIX, lerobot_layout
from pi05.checkpoint.locate import Location
from pi05.checkpoint.openpi.jax_names import jax_layout
from pi05.checkpoint.openpi.names import openpi_layout
from pi05.checkpoint.receipt import Receipt
from pi05.checkpoint.tensor_map import TensorLayout, TensorTarget
from pi05.checkpoint.tensors import Shapes, TensorSource, combine_hashes
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05

NAMES_SHOWN = 6


@dataclass(frozen=True)
class LoadPlan:
    """What to read, and what becomes of the rest."""

    layout: TensorLayout
    reads: Mapping[str, tuple[TensorTarget, ...]]
    """Foreign name → our parameters in it, in the order of their place in it."""
    tied: Mapping[str, str]
    ignored: Mapping[str, str]

    def receipt(self, location: Location, source: TensorSource, model: nn.Module) -> Receipt:
        """Return the receipt of a load that followed this plan."""
        hashes = source.hashes()
        names = [target.name for targets in self.reads.values() for target in targets]
        return Receipt(
            source=str(location.path),
            layout=self.layout.title,
            loaded=tuple(name for name in names if name not in self.tied),
            tied=self.tied,
            merged=dict(source.merged),
            ignored={**self.ignored, **source.aside},
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            bytes=source.bytes,
            files=hashes,
            sha256=combine_hashes(hashes),
            revision=location.revision,
            notes=(*location.notes, *source.notes),
        )


def plan_load(found: Shapes, config: ModelConfig, model: nn.Module, location: Location) -> LoadPlan:
    """Account for every tensor. Raises CheckpointError listing what is missing, unexpected or misshaped."""
    layout = tell_layout(found, config, location)
    ours = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    stand_ins = {wanted: name for name, wanted in layout.stand_ins.items() if name in found and wanted not in found}
    reads: dict[str, tuple[TensorTarget, ...]] = {}
    tied: dict[str, str] = {}
    missing, misshaped = [], []
    for wanted, shape in layout.foreign_shapes(ours).items():
        name = stand_ins.get(wanted, wanted)
        if name not in found:
            missing.append(name)
        elif found[name] != shape:
            misshaped.append(f"{name} is {list(found[name])}, not {list(shape)}")
        else:
            reads[name] = tuple(sorted(layout.targets[wanted], key=lambda target: target.index))
            if name != wanted:
                tied.update({target.name: name for target in layout.targets[wanted]})
    known = {*layout.targets, *layout.dead}
    unexpected = [name for name in found if name not in known]
    faults = [
        f"{len(names)} {title}: {some(names)}"
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
    return LoadPlan(layout, reads, tied, _ignored(layout, found, reads))


def _ignored(layout: TensorLayout, found: Shapes, reads: Mapping[str, tuple[TensorTarget, ...]]) -> dict[str, str]:
    """Return the dead tensors of the file with the reason; of two tied ones, which was taken."""
    ignored = {name: reason for name, reason in layout.dead.items() if name in found and name not in reads}
    for name, wanted in layout.stand_ins.items():
        if name in ignored and wanted in found:
            ignored[name] += f"; the embedding was read from {wanted}"
    return ignored


def _remedy(unexpected: list[str]) -> str:
    if any("state_proj" in name or "action_time_mlp" in name for name in unexpected):
        return "this is a π₀ checkpoint; use one of π₀.₅"
    if any("lora" in name for name in unexpected):
        return "give the adapter's folder with its adapter_config.json, not its weight file"
    return "use a checkpoint of the same sizes that was written completely"


def tell_layout(found: Shapes, config: ModelConfig, location: Location) -> TensorLayout:
    """Tell the layout by its names."""
    names = tell_names(found, location)
    if names == "jax":
        return jax_layout(config)
    if names == "pi05":
        with torch.device("meta"):
            return TensorLayout.ours(name for name, _ in Pi05(config).named_parameters())
    make = lerobot_layout if names == "lerobot" else openpi_layout
    return make(config.depth, config.vision_depth)


def tell_names(found: Shapes, location: Location) -> str:
    """Return whose tensor names these are: jax, lerobot, openpi or pi05. Raises CheckpointError for any other."""
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
        found=f"{location.path} with {len(found)} tensors: {some(list(found))}",
        remedy="give a π₀.₅ checkpoint",
    )


def some(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
