"""How the tensors of a foreign file become ours and back: the vocabulary that each layout's map is written in.

A foreign tensor has one or more `TensorTarget`s: our parameter, the slice of the foreign tensor that it comes from, and
the change of axes, with its inverse. Shapes are never written down. They follow from our parameters' shapes through the
inverse, so that a map cannot contradict the model. Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Change = Callable[[Tensor], Tensor]


def unchanged(tensor: Tensor) -> Tensor:
    """Return the tensor itself."""
    return tensor


@dataclass(frozen=True)
class TensorTarget:
    """One of our parameters, as a part of a foreign tensor."""

    name: str
    """Our parameter's name."""
    index: tuple[int, ...] = ()
    """Leading indices of the part inside the foreign tensor: layer, then key or value, gate or up."""
    to_ours: Change = unchanged
    to_foreign: Change = unchanged

    def cut(self, foreign: Tensor) -> Tensor:
        """Return our parameter's value out of the foreign tensor."""
        return self.to_ours(foreign[self.index] if self.index else foreign)


@dataclass(frozen=True)
class TensorLayout:
    """The tensor names of one kind of file."""

    title: str
    """The name that receipts and messages use."""
    targets: Mapping[str, tuple[TensorTarget, ...]]
    """Foreign name → our parameters in it. Each of our parameters occurs once."""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Foreign name → the foreign name whose place it takes when that one is absent (tied weights)."""
    dead: Mapping[str, str] = field(default_factory=dict)
    """Foreign names that π₀.₅ does not use → the reason."""

    def __post_init__(self) -> None:
        ours = [target.name for targets in self.targets.values() for target in targets]
        if len(ours) != len(set(ours)):
            raise ValueError(f"{self.title}: a parameter is mapped twice")

    @classmethod
    def ours(cls, names: Iterable[str]) -> TensorLayout:
        """Build pi05's own layout."""
        return cls("pi05", {name: (TensorTarget(name),) for name in names})

    def foreign_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each foreign tensor, given those of our parameters."""
        ours = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        return {foreign: tuple(tensor.shape) for foreign, tensor in self.to_foreign(ours).items()}

    def to_foreign(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return our tensors (weights, or gradients) under foreign names and in foreign shapes."""
        return {foreign: _assemble(targets, ours) for foreign, targets in self.targets.items()}

    def to_ours(self, foreign: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return foreign tensors under our names and in our shapes."""
        return {target.name: target.cut(foreign[name]) for name, targets in self.targets.items() for target in targets}


def _assemble(targets: tuple[TensorTarget, ...], ours: Mapping[str, Tensor]) -> Tensor:
    """Put the parts of one foreign tensor together."""
    parts = [target.to_foreign(ours[target.name]) for target in targets]
    if not targets[0].index:
        return parts[0]
    leading = tuple(max(target.index[axis] for target in targets) + 1 for axis in range(len(targets[0].index)))
    whole = parts[0].new_empty((*leading, *parts[0].shape))
    for target, part in zip(targets, parts, strict=True):
        whole[target.index] = part
    return whole
