"""What is watched of the weights: whether they move at all, how far, and what the adapters add to their base.

A sample of the trained weights is copied before a step that a record follows, and compared with it afterwards, bit by
bit. The copies are some thousand numbers; they stay on the device until the record is due.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pi05.finding import Finding, warning
from pi05.model.lora import LoraLinear, lora_modules
from pi05.train.parallel.shards import own_part, whole
from pi05.train.parameters import group_of

MOST_TENSORS, VALUES = 48, 256
"""Tensors of the sample, and values of each."""
LEAST_CHANGED = 0.5
"""Share of float32 weights that a sound step changes at least; at a rate of 1e-9 it is a third."""
LEAST_CHANGED_BY_CHANCE = 1e-3
"""The same of bfloat16 weights that are rounded by chance: 4 % at the end of a schedule to 2.5e-6."""
LARGEST_UPDATE = 0.1
"""Update over weight, root mean squares, from which on it is told; sound runs have 1e-4 to 1e-2."""
SMALL_ADAPTER = 1e-3
"""Norm of what the adapters add over that of the weights below, under which they have learnt nothing yet."""
UNSAMPLED = ("embedding.",)
"""Rows of words that a batch does not hold do not move, which is no fault."""


@dataclass(frozen=True, kw_only=True)
class WeightMeasures:
    """One step, seen in a sample of the trained weights."""

    changed: float
    """Share of the weights whose bits the step has changed."""
    update: float
    """Root mean square of the changes over that of the weights."""
    still: tuple[str, ...]
    """Parts of the network in which nothing has changed."""


class WeightWatch:
    """Compares a sample of the trained weights before and after a step."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        held = {
            name: value
            for name, value in parameters.items()
            if not name.startswith(UNSAMPLED) and own_part(value.detach()).numel()
        }
        names = list(held)
        every = max(1, -(-len(names) // MOST_TENSORS))
        self._chosen = {name: held[name] for name in names[::every]}
        self.by_chance = any(value.dtype == torch.bfloat16 for value in self._chosen.values())
        self._groups: list[str] = []
        self._before: Tensor | None = None
        self._pair: tuple[Tensor, Tensor] | None = None

    def begin(self) -> None:
        """Copy the sample, before a step."""
        if self._chosen:
            self._before = self._sample()

    def end(self) -> None:
        """Copy it again, after the step."""
        if self._before is not None:
            self._pair, self._before = (self._before, self._sample()), None

    @torch.no_grad()
    def _sample(self) -> Tensor:
        parts, self._groups = [], []
        for name, parameter in self._chosen.items():
            flat = own_part(parameter.detach()).flatten()
            part = flat[:: max(1, flat.numel() // VALUES)][:VALUES]
            parts.append(part.float())
            self._groups += [group_of(name)] * len(part)
        return torch.cat(parts)

    def read(self) -> WeightMeasures | None:
        """Return what the last compared step did; None where none was compared since."""
        if self._pair is None:
            return None
        (before, after), self._pair = self._pair, None
        moved, weights = (after - before).square().mean().sqrt(), before.square().mean().sqrt()
        changed = before != after
        share, update = torch.stack([changed.float().mean(), moved / weights]).tolist()
        flags = changed.tolist()
        moving = {group for group, flag in zip(self._groups, flags, strict=True) if flag}
        still = tuple(group for group in dict.fromkeys(self._groups) if group not in moving)
        return WeightMeasures(changed=share, update=update, still=still)


def judge_weights(measures: WeightMeasures, by_chance: bool) -> Iterator[Finding]:
    """Yield what to say of weights that do not move, or too far."""
    least = LEAST_CHANGED_BY_CHANCE if by_chance else LEAST_CHANGED
    if measures.changed < least:
        yield warning(
            "weights.still",
            f"a step changes {measures.changed:.1%} of the trained weights (sampled, bit by bit)",
            "the updates are smaller than the weights' precision, and the run learns next to nothing",
            "raise --policy.optimizer_lr, or take --precision=mixed",
            {"changed": measures.changed},
        )
    elif measures.still:
        yield warning(
            "weights.part-still",
            f"nothing moves in: {', '.join(measures.still)}, though it is trained",
            "that part stays as the base has it",
            "look at the patterns of --peft.target_modules and at the loss of the run",
            {"parts": list(measures.still)},
        )
    if measures.update > LARGEST_UPDATE:
        yield warning(
            "weights.update-size",
            f"a step changes the weights by {measures.update:.0%} of their size (root mean square)",
            "what the base has learnt is overwritten within a few steps",
            "lower --policy.optimizer_lr; a thousandth is usual",
            {"update": measures.update},
        )


class AdapterWatch:
    """Norm of what all adapters add over the norm of the weights that they sit on."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(lora_modules(model).values())
        self._base: Tensor | None = None

    @torch.no_grad()
    def read(self) -> float | None:
        """Return the ratio; None without adapters. All processes call it together."""
        if not self._modules:
            return None
        added = torch.stack([added_square(module) for module in self._modules]).sum()
        if self._base is None:
            self._base = torch.stack([base_square(module) for module in self._modules]).sum().to(added)
        return float((added / self._base).sqrt())


def added_square(module: LoraLinear) -> Tensor:
    """Return the squared norm of scaling · B·A, through products of rank × rank only."""
    a, b = whole(module.lora_a).float(), whole(module.lora_b).float()
    return module.spec.scaling**2 * ((b.T @ b) * (a @ a.T)).sum().clamp(min=0)


def base_square(module: LoraLinear) -> Tensor:
    """Return the squared norm of the frozen weight, decoded where it is quantised."""
    quantized = getattr(module, "quantized", None)
    weight = whole(module.weight) if quantized is None else quantized.dequantize(torch.float32)
    return torch.linalg.vector_norm(weight, dtype=torch.float32).square()


def judge_adapter(ratio: float, step: int, enough: int) -> Iterator[Finding]:
    """Yield what to say of adapters that add next to nothing after `enough` steps."""
    if step >= enough and ratio < SMALL_ADAPTER:
        yield warning(
            "adapter.small",
            f"after {step:,} steps the adapters add {ratio:.1e} of the weights' norm",
            "the policy is still the base: the robot will hardly move as it was shown",
            "raise --policy.optimizer_lr (2.5e-4 is usual for LoRA) or --peft.lora_alpha",
            {"ratio": ratio},
        )
