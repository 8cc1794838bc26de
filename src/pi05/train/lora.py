"""LoRA in a run: which maps get an adapter or are trained in full, how the frozen rest is held, what the user is told.

The adapters themselves are `model/lora.py`, LeRobot's names and PEFT's files `checkpoint/peft/adapter.py`. Numbers that
PEFT leaves to the user have openpi's defaults (`models/gemma.py`): attention and MLP of both experts, alpha = rank, the
projections trained in full. openpi's rank for the language model, 16, is used for both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import nn

from pi05.checkpoint.peft.adapter import read_adapter, resolve_targets, write_adapter
from pi05.checkpoint.peft.names import resolve_full
from pi05.errors import CheckpointError, ConfigError
from pi05.model.lora import ADAPTER_PARTS, LoraLinear, LoraSpec, Start, add_lora, lora_modules
from pi05.model.pi05 import Pi05
from pi05.model.quantize import quantize_frozen, quantized_weights
from pi05.train.config import TrainConfig
from pi05.train.parameters import FROZEN, GROUPS, group_of, train_only


@dataclass(frozen=True)
class LoraPlan:
    """What of a network LoRA trains."""

    specs: Mapping[str, LoraSpec]
    """Our module name → its adapter."""
    full: tuple[str, ...]
    """Our names of the base's parameters that are trained in full."""
    left_out: int = 0
    """Maps that the patterns hit and a flag keeps frozen."""


def plan_lora(config: TrainConfig, model: Pi05) -> LoraPlan:
    """Decide what gets an adapter and what is trained in full.

    A map that both name is trained in full. Raises ConfigError for a pattern that hits nothing, or nothing that may be
    trained.
    """
    peft = config.peft
    spec = LoraSpec(
        rank=peft.r, alpha=peft.alpha, rslora=peft.use_rslora, dora=peft.use_dora, dropout=peft.lora_dropout
    )
    hit = resolve_targets(model, peft.targets, modules_to_save=peft.full_training_modules)
    full = resolve_full(model, peft.full_training_modules)
    frozen = FROZEN[config.part]
    targets = [name for name in hit if group_of(f"{name}.weight") not in frozen]
    if not targets:
        raise ConfigError(
            "LoRA has nothing to adapt",
            wanted="at least one map that --peft.target_modules hits and no other flag keeps frozen",
            found=f"{len(hit)} maps, all in: {', '.join(frozen)}",
            remedy="drop --policy.freeze_vision_encoder or --policy.train_expert_only, or name other maps",
        )
    kept = tuple(name for name in full if group_of(name) not in frozen)
    if not any(model.is_read(name) for name in (*(f"{target}.weight" for target in targets), *kept)):
        raise ConfigError(
            "LoRA would adapt only what nothing reads: no action would ever change",
            wanted="at least one map besides the end of the last language layer",
            found=", ".join(targets),
            remedy="name other maps with --peft.target_modules",
        )
    return LoraPlan(dict.fromkeys(targets, spec), kept, len(hit) - len(targets) + len(full) - len(kept))


def adapt(model: Pi05, config: TrainConfig) -> LoraPlan | None:
    """Put LoRA's adapters on and hold the rest as training does; None, and nothing done, for the other methods.

    The base must be in place, or everything on `meta`.
    """
    if not config.uses_adapters:
        return None
    plan = plan_lora(config, model)
    add_adapters(model, plan, config)
    freeze_base(model, plan)
    narrow_frozen_maps(model, plan.full)
    return plan


def add_adapters(model: Pi05, plan: LoraPlan, config: TrainConfig) -> None:
    """Put the adapters on, drawn from the run's seed; they change nothing yet. With QLoRA quantise what stays frozen.

    The base must be in place: DoRA measures it, codes replace it.
    """
    start: Start = "gaussian" if config.peft.init_type == "gaussian" else "uniform"
    add_lora(model, plan.specs, torch.Generator().manual_seed(config.seed), start)
    if config.peft.quantize != "none":
        quantize_frozen(model, config.peft.quantize, plan.full)


def parameters_of_plan(model: nn.Module, plan: LoraPlan) -> dict[str, nn.Parameter]:
    """Return adapters and what is trained in full, by name: all that a checkpoint holds, read by anything or not."""
    return {name: value for name, value in model.named_parameters() if is_adapter_part(name) or name in plan.full}


def freeze_base(model: Pi05, plan: LoraPlan) -> dict[str, nn.Parameter]:
    """Switch gradients off for all but adapters and what is trained in full; return the trainable parameters."""
    return train_only(model, parameters_of_plan(model, plan))


def is_adapter_part(name: str) -> bool:
    """Tell whether a parameter belongs to an adapter."""
    return name.rpartition(".")[2] in ADAPTER_PARTS


def base_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the base's parameters by name, without the adapters'."""
    return {name: value.detach() for name, value in model.named_parameters() if not is_adapter_part(name)}


@torch.no_grad()
def narrow_frozen_maps(model: Pi05, full: Collection[str]) -> None:
    """Round frozen maps to the precision that they compute in; those of `full` are none, read by anything or not.

    Half the memory, and not one result changes: the towers round these weights at every use anyway. What computes in
    float32 stays float32: norms, positions, embedding, patches, projections. DoRA takes the length of the rows of the
    weight itself, so its maps stay float32 too. Of quantised maps the biases are left to round.
    """
    for name, module in model.tower_maps.items():
        if isinstance(module, LoraLinear) and module.spec.dora:
            continue
        for part, parameter in (("weight", module.weight), ("bias", module.bias)):
            if parameter is not None and f"{name}.{part}" not in full:
                parameter.data = parameter.data.to(model.compute_dtype)


def frozen_precision(model: Pi05) -> str:
    """Return the precision of a frozen base, in words."""
    kinds = [weight.kind for name, weight in quantized_weights(model).items() if name != "embedding"]
    return kinds[0] if kinds else str(model.compute_dtype).removeprefix("torch.")


def read_trained(folder: Path, model: Pi05) -> dict[str, torch.Tensor]:
    """Return the trained tensors of an adapter checkpoint under our parameter names.

    `model` has its adapters. Raises CheckpointError unless the checkpoint holds the same adapters.
    """
    with torch.device("meta"):
        plain = Pi05(model.config)
    adapter = read_adapter(folder, plain)
    wanted = {name: module.spec for name, module in lora_modules(model).items()}
    if dict(adapter.specs) != wanted:
        differing = sorted(name for name in {*wanted, *adapter.specs} if wanted.get(name) != adapter.specs.get(name))
        raise CheckpointError(
            "the checkpoint holds other adapters than the run's configuration describes",
            wanted=f"adapters on {len(wanted)} maps",
            found=f"{len(adapter.specs)}; differing: {', '.join(differing[:5])}",
            remedy="use another checkpoint of the run, or restore its config.json",
        )
    return {**adapter.lora, **adapter.full}


def write_trained(folder: Path, model: Pi05, plan: LoraPlan, base: Mapping[str, Any]) -> None:
    """Write the adapter files of a checkpoint."""
    write_adapter(folder, model, base=str(base["source"]), full=plan.full)


def lora_table(model: Pi05, plan: LoraPlan) -> Table:
    """Return the table of what the patterns hit, part by part."""
    spec = next(iter(plan.specs.values()))
    kind = "DoRA" if spec.dora else "rsLoRA" if spec.rslora else "LoRA"
    title = f"{kind}: rank {spec.rank}, alpha {spec.alpha:g}, scaling {spec.scaling:g}"
    if spec.dropout:
        title += f", dropout {spec.dropout:g}"
    table = Table(title=title, title_justify="left")
    for column in ("part", "adapters", "parameters", "in full", "maps"):
        table.add_column(column, justify="left" if column in ("part", "maps") else "right")
    parameters = dict(model.named_parameters())
    for group in GROUPS:
        maps = [name for name in plan.specs if group_of(f"{name}.weight") == group]
        inside = [value for name, value in parameters.items() if is_adapter_part(name) and group_of(name) == group]
        full = [parameters[name] for name in plan.full if group_of(name) == group]
        kinds = dict.fromkeys(name.rpartition(".")[2] for name in maps)
        table.add_row(group, f"{len(maps)}", f"{_count(inside):,}", f"{_count(full):,}", ", ".join(kinds))
    return table


def _count(parameters: list[nn.Parameter]) -> int:
    return sum(math.prod(parameter.shape) for parameter in parameters)
