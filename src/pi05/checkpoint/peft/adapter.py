"""LoRA adapters of π₀.₅ in PEFT's file format, as LeRobot writes and reads them.

    adapter_config.json         which modules, rank, alpha, kind (`config.py`)
    adapter_model.safetensors   base_model.model.<LeRobot's module>.lora_A.weight, .lora_B.weight,
                                .lora_magnitude_vector (DoRA), and the whole tensors of modules_to_save

Reading accounts for every tensor once, before the network is touched. Leaves out which base an adapter belongs to
(`checkpoint/locate.py`) and what is trained (`train/`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pi05.checkpoint.file_names import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from pi05.checkpoint.peft.config import (
    AdapterConfig,
    adapter_config_values,
    parse_adapter_config,
    read_adapter_config,
)
from pi05.checkpoint.peft.names import (
    HEADS,
    LerobotModules,
    lerobot_module_of,
    lerobot_modules,
    reason_against,
    resolve_full,
    resolve_targets,
    saved_in_full,
)
from pi05.checkpoint.safetensors_writer import LazyTensor, write_safetensors
from pi05.checkpoint.tensors import TensorFiles
from pi05.errors import CheckpointError
from pi05.files import write_json
from pi05.model.lora import LORA_A, LORA_B, MAGNITUDE, LoraSpec, add_lora, load_lora_state, lora_modules
from pi05.model.pi05 import Pi05

__all__ = ["Adapter", "apply_adapter", "read_adapter", "resolve_full", "resolve_targets", "write_adapter"]

PICKLED = "adapter_model.bin"
PREFIX = "base_model.model."
PARTS = {LORA_A: ".lora_A.weight", LORA_B: ".lora_B.weight", MAGNITUDE: ".lora_magnitude_vector"}
FAULTS_SHOWN = 6
UNUSED_HEAD = "language head, not used by π₀.₅"
REMEDY = "copy or download the adapter again; it has to be one for π₀.₅ of these sizes"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """The content of an adapter folder, under our names, checked against the network that it is for."""

    specs: Mapping[str, LoraSpec]
    """Our module name → its adapter."""
    lora: Mapping[str, Tensor]
    """Our parameter name ("<module>.lora_a", …) → value, float32."""
    full: Mapping[str, Tensor]
    """Our parameter name → value, for modules that were trained in full (`modules_to_save`)."""
    config: Mapping[str, Any]
    """adapter_config.json."""
    ignored: Mapping[str, str]
    """Tensors of the file that are not used → the reason."""
    files: Mapping[str, str]
    """File name → SHA-256."""
    bytes: int
    """Size of the weight file."""


@dataclass(frozen=True)
class _Plan:
    """What the configuration says the weight file holds, by LeRobot's module names."""

    specs: Mapping[str, LoraSpec]
    lora: Mapping[str, tuple[str, tuple[int, ...]]]
    """Name in the file → our parameter name, shape."""
    full: Mapping[str, tuple[int, ...]]
    """Name in the file without the prefix → shape there."""
    ignored: Mapping[str, str]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor that must be in the file."""
        return {
            **{name: shape for name, (_, shape) in self.lora.items()},
            **{PREFIX + name: shape for name, shape in self.full.items()},
        }


def read_adapter(folder: Path, model: Pi05) -> Adapter:
    """Read an adapter folder for a network of `model`'s sizes; the model's values are neither read nor changed.

    Raises CheckpointError for anything that does not fit: settings that are not supported, a missing or an unexpected
    tensor, another rank or shape than the configuration says, values that are not finite, a damaged file.
    """
    config = read_adapter_config(folder)
    files = TensorFiles([_weight_file(folder)])
    modules = lerobot_modules(model)
    plan = _plan(config, modules, model, files.shapes)
    _compare(folder, plan, files.shapes)
    return Adapter(
        specs={modules.linear[name]: spec for name, spec in plan.specs.items()},
        lora={ours: files.read(name).float() for name, (ours, _) in plan.lora.items()},
        full={
            target.name: target.cut(files.read(PREFIX + name)).contiguous()
            for name in plan.full
            for target in modules.layout.targets[name]
        },
        config=config.values,
        ignored=plan.ignored,
        files=files.hashes(),
        bytes=files.bytes,
    )


def _weight_file(folder: Path) -> Path:
    path = folder / ADAPTER_WEIGHTS
    if path.is_file():
        return path
    pickled = (folder / PICKLED).is_file()
    raise CheckpointError(
        "the adapter's weights are pickled, which can run code, and are not opened" if pickled else
        "the adapter's weights are missing",
        wanted=str(path),
        found=PICKLED if pickled else f"no {ADAPTER_WEIGHTS} beside {ADAPTER_CONFIG}",
        remedy="save it again with peft's save_pretrained(..., safe_serialization=True)" if pickled else REMEDY,
    )  # fmt: skip


def _plan(config: AdapterConfig, modules: LerobotModules, model: Pi05, found: Mapping[str, tuple[int, ...]]) -> _Plan:
    """Work out what the file must hold; tensors of the heads that π₀.₅ does not use are the only ones to ignore."""
    targets = config.targets(modules)
    unfit = [name for name in targets if name not in modules.linear and name not in HEADS]
    if unfit or not set(targets) - set(HEADS):
        raise CheckpointError(
            "the adapter's target_modules do not fit π₀.₅",
            wanted="linear maps of LeRobot's π₀.₅",
            found=", ".join(f"{name} ({reason_against(name)})" for name in unfit[:FAULTS_SHOWN]) or
            f"{config.target_modules!r} hits none of them",
            remedy=REMEDY,
        )  # fmt: skip
    specs = {name: config.spec(name) for name in targets if name in modules.linear}
    lora = {}
    for name, spec in specs.items():
        outputs, inputs = model.get_parameter(f"{modules.linear[name]}.weight").shape
        shapes = {LORA_A: (spec.rank, inputs), LORA_B: (outputs, spec.rank), MAGNITUDE: (outputs,)}
        for part in PARTS if spec.dora else (LORA_A, LORA_B):
            lora[f"{PREFIX}{name}{PARTS[part]}"] = f"{modules.linear[name]}.{part}", shapes[part]
    saved = [name for name in modules.names if saved_in_full(name, config.modules_to_save)]
    foreign_shapes = modules.layout.foreign_shapes(
        {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    )
    full = {tensor: foreign_shapes[tensor] for tensor in modules.tensors_in(saved)}
    dead = tuple(f"{PREFIX}{head}." for head in HEADS)
    return _Plan(specs, lora, full, {name: UNUSED_HEAD for name in found if name.startswith(dead)})


def _compare(folder: Path, plan: _Plan, found: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError unless the file holds exactly what the plan says."""
    wanted = plan.shapes()
    faults = [f"no {name}" for name in wanted if name not in found]
    faults += [f"unexpected {name}" for name in found if name not in wanted and name not in plan.ignored]
    faults += [
        f"{name} is {list(found[name])}, wanted {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    if not faults:
        return
    more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
    raise CheckpointError(
        f"the adapter in {folder} does not fit its own {ADAPTER_CONFIG} and this network",
        wanted=f"{len(wanted)} tensors, for {len(plan.specs)} adapters and {len(plan.full)} tensors trained in full",
        found="; ".join(faults[:FAULTS_SHOWN]) + more,
        remedy=REMEDY,
    )


@torch.no_grad()
def apply_adapter(model: Pi05, adapter: Adapter) -> None:
    """Put the adapter onto the base that `model` holds, unmerged: outputs change, the base's own weights stay.

    `model` has the sizes that `read_adapter` saw, and no adapter yet.
    """
    add_lora(model, adapter.specs)
    load_lora_state(model, adapter.lora)
    for name, value in adapter.full.items():
        model.get_parameter(name).copy_(value)


def write_adapter(
    folder: Path,
    model: Pi05,
    *,
    base: str,
    full: Collection[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, str | int]:
    """Write `model`'s adapters as PEFT does; return {"sha256", "bytes"} of the weight file.

    `base` is recorded as the base's path or repository. `full`: parameters that were trained in full; the whole modules
    of LeRobot's that hold them are written. `extra` replaces fields of adapter_config.json, such as `target_modules`
    by the pattern that was given. Files are written under temporary names, synced and renamed, the configuration last.
    Raises ValueError for what PEFT's format cannot say, or when the configuration would not be read back as this model.
    """
    modules = lerobot_modules(model)
    foreign = {ours: name for name, ours in modules.linear.items()}
    adapted = lora_modules(model)
    if not adapted or not set(adapted) <= set(foreign):
        raise ValueError(f"adapters must be on linear maps of LeRobot's, found {sorted(set(adapted) - set(foreign))}")
    tensors = {
        f"{PREFIX}{foreign[name]}{suffix}": LazyTensor.of(getattr(module, part))
        for name, module in adapted.items()
        for part, suffix in PARTS.items()
        if getattr(module, part) is not None
    }
    tensor_of = {target.name: tensor for tensor, targets in modules.layout.targets.items() for target in targets}
    saved = {lerobot_module_of(tensor_of[name]): None for name in full}
    for tensor in modules.tensors_in(saved):
        (target,) = modules.layout.targets[tensor]
        tensors[PREFIX + tensor] = LazyTensor.of(target.to_foreign(model.get_parameter(target.name).detach()))
    specs = {foreign[name]: module.spec for name, module in adapted.items()}
    values = adapter_config_values(specs, base=base, modules_to_save=list(saved), extra=extra or {})
    read_back = parse_adapter_config(folder / ADAPTER_CONFIG, values)
    with torch.device("meta"):
        plain = Pi05(model.config)  # a quantised weight does not tell its shape
    plan = _plan(read_back, modules, plain, {})
    if set(plan.shapes()) != set(tensors) or dict(plan.specs) != specs:
        raise ValueError("adapter_config.json would not be read back as the adapters of this model")
    folder.mkdir(parents=True, exist_ok=True)
    written = write_safetensors(folder / ADAPTER_WEIGHTS, tensors, {"format": "pt"})
    write_json(folder / ADAPTER_CONFIG, values)
    return written
