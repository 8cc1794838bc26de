"""The files of an exported policy, for each layout, into a folder that is given.

Which layout, and whether the policy may be written in it, is `export.py`'s; the formats are in `checkpoint/`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import pi05
from pi05.checkpoint.file_fields import AdapterNames, read_fields
from pi05.checkpoint.file_names import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, WEIGHTS
from pi05.checkpoint.lerobot import write as write_lerobot
from pi05.checkpoint.lerobot import write_steps
from pi05.checkpoint.lerobot.names import lerobot_layout
from pi05.checkpoint.openpi import write as write_openpi
from pi05.checkpoint.openpi.names import openpi_layout
from pi05.checkpoint.own.fingerprint import EDITED, edited_fields, with_fingerprint
from pi05.checkpoint.safetensors_writer import LazyTensor, write_safetensors
from pi05.checkpoint.store import FORMAT, FORMAT_VERSION, read_checkpoint_config
from pi05.checkpoint.tokenizer_folder import write_tokenizer
from pi05.export.source import Source
from pi05.files import write_atomic, write_json
from pi05.model.pi05 import Pi05

ExportLayout = Literal["lerobot", "openpi", "pi05"]
_OF_TRAINING = ("adapter", "frozen_precision")
"""Entries of a checkpoint's config.json that do not hold for merged weights."""


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What to write of a source."""

    to: ExportLayout
    dtype: torch.dtype
    tokenizer_name: str
    """What LeRobot's processor names as its tokenizer: an absolute path, or a repository."""
    tokenizer_at_root: bool
    asset_id: str
    adapter_only: bool = False
    base_name: str | None = None
    """What adapter_config.json names as the base."""
    with_base: bool = False
    """Whether the base is written beside the adapter."""

    @property
    def layout(self) -> str:
        """Name of the layout in pi05.json."""
        return f"{self.to}-adapter" if self.adapter_only else self.to

    @property
    def made_for(self) -> tuple[str, ...]:
        """Programs and versions that can read the folder, as people read them."""
        if self.to == "lerobot":
            newer = "LeRobot 0.7 as far as its release notes tell"
            return (*(f"LeRobot {version}" for version in write_lerobot.VERSIONS), newer)
        return (f"openpi {write_openpi.REVISION}",) if self.to == "openpi" else (f"pi05 {pi05.__version__}",)


def weight_tensors(model: Pi05, plan: ExportPlan) -> dict[str, LazyTensor]:
    """Return the content of `model.safetensors`."""
    if plan.to == "lerobot":
        return write_lerobot.lerobot_tensors(model, plan.dtype)
    if plan.to == "openpi":
        return write_openpi.openpi_tensors(model, plan.dtype)
    dtypes = stored_dtypes(model, plan)
    return {name: LazyTensor.of(value.detach(), dtypes[name]) for name, value in model.named_parameters()}


def stored_dtypes(model: Pi05, plan: ExportPlan) -> dict[str, torch.dtype]:
    """Return in which precision each of our parameters is stored; our own layout follows LeRobot's choice."""
    config = model.config
    if plan.to == "openpi":
        layout, choose = openpi_layout(config.depth, config.vision_depth), write_openpi.openpi_dtype
    else:
        layout, choose = lerobot_layout(config.depth, config.vision_depth), write_lerobot.lerobot_dtype
    return {target.name: choose(name, plan.dtype) for name, targets in layout.targets.items() for target in targets}


def write_files(folder: Path, source: Source, plan: ExportPlan) -> dict[str, dict[str, Any]]:
    """Write everything but the probe and pi05.json; return {"sha256", "bytes"} of the files that are known already."""
    known: dict[str, dict[str, Any]] = {}
    if plan.adapter_only:
        _copy_adapter(folder, source, plan)
    else:
        metadata = write_openpi.METADATA if plan.to == "openpi" else write_lerobot.METADATA
        tensors = weight_tensors(source.policy.model, plan)
        known[WEIGHTS] = dict(write_safetensors(folder / WEIGHTS, tensors, metadata))
    if plan.to == "lerobot":
        _write_lerobot(folder, source, plan)
    elif plan.to == "openpi":
        processor = source.policy.processor
        write_openpi.write_openpi_files(folder, processor, asset_id=plan.asset_id, dtype=plan.dtype)
        _write_own_tokenizer(folder, source)
    else:
        write_json(folder / CONFIG, with_fingerprint(_own_config(source, plan)))
        _write_own_tokenizer(folder, source)
    return known


def lerobot_config_of(source: Source, plan: ExportPlan, *, use_peft: bool) -> dict[str, Any]:
    """Return LeRobot's `config.json` of a source."""
    processor = source.policy.processor
    return write_lerobot.lerobot_config(
        processor,
        n_action_steps=source.policy.n_action_steps,
        cameras=source.cameras,
        dtype=plan.dtype,
        exclude=write_steps.relative_words(processor)[0],
        use_peft=use_peft,
    )


def _write_lerobot(folder: Path, source: Source, plan: ExportPlan) -> None:
    processor = source.policy.processor
    write_json(folder / CONFIG, lerobot_config_of(source, plan, use_peft=plan.adapter_only))
    write_steps.write_pipelines(folder, processor, cameras=source.cameras, tokenizer_name=plan.tokenizer_name)
    places = [folder / write_steps.TOKENIZER_FOLDER, *([folder] if plan.tokenizer_at_root else [])]
    for place in places:
        write_tokenizer(place, processor.tokenizer)


def _write_own_tokenizer(folder: Path, source: Source) -> None:
    tokenizer = source.policy.processor.tokenizer
    write_atomic(folder / tokenizer.file_name, tokenizer.file_bytes())


def _own_config(source: Source, plan: ExportPlan) -> dict[str, Any]:
    """Return config.json of a pi05 folder: the source's own, or what is known of a foreign one."""
    policy = source.policy
    before: Mapping[str, Any] = read_checkpoint_config(source.folder) if source.location.kind == "pi05" else {}
    kept = {key: value for key, value in before.items() if key not in _OF_TRAINING}
    edited = edited_fields(before)
    if edited:  # accepted by name; the new fingerprint must not hide it
        kept[EDITED] = sorted({*kept.get(EDITED, ()), *edited})
    config = {
        **kept,
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "pi05_version": pi05.__version__,
        "model": policy.model.config.to_dict(),
        "processor": policy.processor.to_dict(),
        "n_action_steps": policy.n_action_steps,
        **({"rtc_max_delay": policy.max_delay} if policy.max_delay else {}),
        "step": source.step,
        "base": source.base,
    }
    if plan.adapter_only and source.receipt.base is not None:
        below = source.receipt.base
        config |= {"adapter": True, **{key: before[key] for key in ("frozen_precision",) if key in before}}
        return {**config, "base": {"path": str(Path(below.source).resolve()), "sha256": below.sha256}}
    return config


def _copy_adapter(folder: Path, source: Source, plan: ExportPlan) -> None:
    """Copy the adapter's weights to the byte, and its configuration with the base's new name."""
    if source.location.adapter is None:
        raise ValueError(f"{source.location.path} is no adapter")
    shutil.copyfile(source.location.adapter / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
    config = read_fields(source.location.adapter / ADAPTER_CONFIG, AdapterNames)
    write_json(folder / ADAPTER_CONFIG, {**config, "base_model_name_or_path": plan.base_name})
