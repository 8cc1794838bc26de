"""Which parameters a run trains, what that is called, and the norms that are logged.

The groups follow LeRobot's flags: `freeze_vision_encoder` leaves the vision tower as it is and trains the linear head
behind it (the peers' projector); `train_expert_only` leaves vision, embedding and language as they are. A part of the
network whose parameters and inputs need no gradient keeps no graph, so a frozen prefix costs no backward pass. What
nothing reads (`Pi05.unread_modules`) is never trained, and saved all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from rich.table import Table
from torch import Tensor, nn

from pi05.errors import CheckpointError
from pi05.model.pi05 import Pi05
from pi05.model.quantize import quantized_weights
from pi05.train.method import Part
from pi05.train.parallel.shards import global_norm

GROUPS = {
    "vision tower": ("vision.",),
    "vision head": ("vision.head.",),
    "embedding": ("embedding.",),
    "language model": ("language.",),
    "action expert": ("expert.",),
    "action and time projections": ("action_in.", "action_out.", "time_in.", "time_out."),
}
FROZEN: dict[Part, tuple[str, ...]] = {
    "full": (),
    "frozen-vision": ("vision tower",),
    "expert": ("vision tower", "vision head", "embedding", "language model"),
}


def group_of(name: str) -> str:
    """Return the group that a parameter belongs to: the one with the longest matching prefix."""
    matches = [(len(start), group) for group, starts in GROUPS.items() for start in starts if name.startswith(start)]
    if not matches:
        raise ValueError(f"parameter {name} belongs to no group")
    return max(matches)[1]


def parameters_of(model: nn.Module, part: Part) -> dict[str, nn.Parameter]:
    """Return the parameters of the part of the network that is trained, by name; those that nothing reads are some."""
    return {name: value for name, value in model.named_parameters() if group_of(name) not in FROZEN[part]}


def freeze(model: Pi05, part: Part) -> dict[str, nn.Parameter]:
    """Switch gradients off for all but a part of the network; return the trainable parameters by name."""
    return train_only(model, parameters_of(model, part))


def train_only(model: Pi05, chosen: Collection[str]) -> dict[str, nn.Parameter]:
    """Switch gradients on for the chosen parameters as far as anything reads them; return these by name.

    What nothing reads could never move. With gradients switched on, DDP would search for it in every step and keep
    memory for gradients that never come.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen and model.is_read(name))
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def moments_in_use(model: Pi05, moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the moments of what nothing reads, which a checkpoint may hold: without gradients they are zero."""
    return {label: value for label, value in moments.items() if model.is_read(label.partition("/")[2])}


@dataclass(frozen=True)
class GroupCount:
    """Parameters of one group."""

    trainable: int
    frozen: int


def count_groups(model: nn.Module) -> dict[str, GroupCount]:
    """Count the parameters of each group; a quantised weight counts as what it stands for."""
    counts = {group: [0, 0] for group in GROUPS}
    for name, (values, trainable) in _sizes(model).items():
        counts[group_of(name)][0 if trainable else 1] += values
    return {group: GroupCount(*count) for group, count in counts.items()}


def _sizes(model: nn.Module) -> dict[str, tuple[int, bool]]:
    """Return the number of values of each parameter, and whether it is trainable."""
    quantized = quantized_weights(model)
    found = {
        name: (parameter.numel(), parameter.requires_grad)
        for name, parameter in model.named_parameters()
        if name.rpartition(".quantized.")[0] not in quantized
    }
    return found | {f"{name}.weight": (weight.shape.numel(), False) for name, weight in quantized.items()}


def parameter_table(model: Pi05) -> Table:
    """Return the table of trainable and frozen parameters that is shown before the first step."""
    table = Table(title="Parameters", title_justify="left")
    for column in ("part", "trainable", "frozen"):
        table.add_column(column, justify="left" if column == "part" else "right")
    groups = count_groups(model)
    for group, count in groups.items():
        table.add_row(group, f"{count.trainable:,}", f"{count.frozen:,}")
    table.add_section()
    total = GroupCount(sum(c.trainable for c in groups.values()), sum(c.frozen for c in groups.values()))
    table.add_row("all", f"{total.trainable:,}", f"{total.frozen:,}")
    unread = sum(values for name, (values, _) in _sizes(model).items() if not model.is_read(name))
    table.caption = f"{unread:,} of the frozen ones are read by nothing (most of the last language layer)"
    table.caption_justify = "left"
    return table


@torch.no_grad()
def kernel_norm(parameters: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Return the global norm of the matrices, as openpi logs it: no biases, scales, positions or token embedding."""
    kernels = [
        value
        for name, value in parameters.items()
        if value.ndim > 1 and name not in ("embedding.weight", "vision.position_embedding")
    ]
    return global_norm(kernels)


def require_names(wanted: Collection[str], found: Collection[str]) -> None:
    """Raise CheckpointError when a checkpoint holds other parameters than a network has."""
    if set(wanted) != set(found):
        raise CheckpointError(
            "the checkpoint does not hold the network's parameters",
            wanted=f"{len(wanted)} parameters",
            found=f"{len(found)}; differing: {', '.join(sorted(set(wanted) ^ set(found))[:5])}",
            remedy="use another checkpoint of the run",
        )


def require_fits(name: str, value: Tensor, parameter: Tensor) -> None:
    """Raise CheckpointError unless a stored tensor can be the values of a parameter, which copying would not mind."""
    if value.shape != parameter.shape or not value.is_floating_point():
        raise CheckpointError(
            f"the checkpoint's {name} is not that of the network",
            wanted=f"numbers of shape {list(parameter.shape)}",
            found=f"{str(value.dtype).removeprefix('torch.')} of shape {list(value.shape)}",
            remedy="use another checkpoint of the run, or copy it again",
        )
