"""What FSDP gathers together, how often and in which precision: decided here, for the run and for its prediction.

A layer's maps round their matrices to the precision that they compute in at every use (`model/layers.py`). Rounded
before they are gathered instead of after, they are the same numbers, and half the bytes. What computes in float32 has
to come exactly: the vectors of the layers lie in the root's unit, since a unit has one precision, and units of their
own would be more exchanges of next to nothing. Biases are among them, though maps round these too: compiled code adds
a bias as it comes, without rounding it. The embedding is exact, since its rows are multiplied before they are rounded.
Its backward pass reads no weight, so it is gathered once.

Layers with adapters come as they are held: frozen matrices are in bfloat16 already, or in float32 for DoRA, which
measures them, and an adapter looks at the precision of its parts (`model/lora.py`). Leaves out the splitting itself
(`split.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from pi05.model.layers import Linear
from pi05.model.lora import LoraLinear
from pi05.model.pi05 import Pi05

TOWERS = ("vision.blocks", "language.layers", "expert.layers")
"""Where the layers are, in the order of the forward pass."""
BEHIND: dict[str, tuple[str, ...]] = {
    "vision.blocks": ("vision.patch_embedding", "vision.position_embedding", "vision.blocks"),
    "language.layers": ("vision", "embedding", "language"),
    "expert.layers": ("",),
}
"""What the layers of a tower read or are, by the start of its name: where that is trained, they are gathered again."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Parameters that are gathered together when the module runs, and freed when it is done."""

    module: nn.Module
    names: tuple[str, ...]
    """Full names of the parameters; what the module has besides belongs to the root's unit."""
    rounded_to: torch.dtype | None = None
    """Precision that these are gathered in; None: each in its own."""
    in_backward: bool = True
    """Whether the backward pass gathers them once more."""
    size: int
    """Bytes of one gather."""


def units_of(model: Pi05) -> list[Unit]:
    """Return the units of a network that is not split yet: the root, with all that no other has, then the others."""
    parameters = dict(model.named_parameters())
    below = [*_layers(model, parameters), _embedding(parameters, model)]
    taken = {name for unit in below for name in unit.names}
    rest = tuple(name for name in parameters if name not in taken)
    return [Unit(module=model, names=rest, size=_size(parameters, rest)), *below]


def gathered_bytes(units: list[Unit]) -> int:
    """Return the bytes that a forward pass and its backward pass gather; of them each process has its own part."""
    return sum(unit.size * (1 + unit.in_backward) for unit in units)


def _layers(model: Pi05, parameters: dict[str, nn.Parameter]) -> Iterator[Unit]:
    for tower in TOWERS:
        moved = any(value.requires_grad and name.startswith(BEHIND[tower]) for name, value in parameters.items())
        for name, layer in model.get_submodule(tower).named_children():
            start = f"{tower}.{name}."
            rounded_to = _precision_of_matrices(layer, model.compute_dtype)
            inside = layer.named_parameters() if rounded_to is None else _matrices(layer)
            names = tuple(start + each for each, _ in inside)
            size = _size(parameters, names, rounded_to)
            yield Unit(module=layer, names=names, rounded_to=rounded_to, in_backward=moved, size=size)


def _embedding(parameters: dict[str, nn.Parameter], model: Pi05) -> Unit:
    names = tuple(f"embedding.{name}" for name, _ in model.embedding.named_parameters())
    return Unit(module=model.embedding, names=names, in_backward=False, size=_size(parameters, names))


def _precision_of_matrices(layer: nn.Module, computed: torch.dtype) -> torch.dtype | None:
    """Return what the layer's matrices can be gathered in instead of their own precision; None: nothing, or the same.

    With adapters: nothing.
    """
    if any(isinstance(module, LoraLinear) for module in layer.modules()):
        return None
    wider = any(value.dtype.itemsize > computed.itemsize for _, value in _matrices(layer))
    return computed if wider else None


def _matrices(layer: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the weights of the layer's maps by name; one in codes is none."""
    maps = [(name, module) for name, module in layer.named_modules() if isinstance(module, Linear)]
    return [(f"{name}.weight", module.weight) for name, module in maps if isinstance(module.weight, nn.Parameter)]


def _size(parameters: dict[str, nn.Parameter], names: tuple[str, ...], rounded_to: torch.dtype | None = None) -> int:
    return sum(parameters[name].numel() * (rounded_to or parameters[name].dtype).itemsize for name in names)
