"""Any folder as a policy: finds the transforms that belong to the weights, whoever wrote them.

pi05's own checkpoints hold a processor. LeRobot's folders hold two processor files (`lerobot/read.py`), and openpi's
hold statistics only (`openpi/read.py`). A file of weights alone is no policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pi05
from pi05.checkpoint.file_fields import about
from pi05.checkpoint.file_names import CONFIG
from pi05.checkpoint.lerobot.read import read_lerobot
from pi05.checkpoint.load import read_config
from pi05.checkpoint.locate import LEROBOT_FOLDER, Location
from pi05.checkpoint.openpi.read import read_openpi
from pi05.checkpoint.own.fingerprint import require_unedited
from pi05.checkpoint.peft.locate_base import AdapterBase, locate_base
from pi05.checkpoint.plausible import require_plausible
from pi05.checkpoint.policy_options import PolicyOptions, ProcessorSource, rename_cameras
from pi05.checkpoint.store import read_checkpoint_config
from pi05.data.processor import Processor
from pi05.data.tokenizer import Tokenizer
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig


def read_processor(location: Location, sizes: ModelConfig, options: PolicyOptions | None = None) -> ProcessorSource:
    """Return the transforms of the policy at `location`, for a network of these sizes.

    Raises CheckpointError (DataError for pi05's own) when the folder, with the options, does not tell all of them.
    """
    options = options or PolicyOptions()
    folder = location.folder
    if location.kind in ("pi05", "lerobot"):
        options.require_unused("asset_id", "horizon", "relative_mask", "adapt_to_pi")
    if location.kind == "pi05":
        return _read_own(folder, options)
    if options.accept_edited:
        raise CheckpointError(
            "accept_edited is for pi05's own checkpoints: a folder of LeRobot's or openpi's has no fingerprint",
            found=f"accept_edited={list(options.accept_edited)}",
            remedy="leave accept_edited out",
        )
    with about(folder):
        if location.kind == "lerobot":
            return read_lerobot(folder, sizes, options)
        if location.kind in ("openpi", "jax") and location.path.is_dir():
            return read_openpi(folder, sizes, options, location.sizes)
    raise CheckpointError(
        "a file of weights is no policy: nobody knows its cameras and units",
        wanted="a checkpoint folder of pi05, LeRobot or openpi",
        found=str(location.path),
        remedy="give the folder, or fine-tune from the file: pi05 train --policy.path=…",
    )


def read_transforms(
    location: Location,
    *,
    options: PolicyOptions | None = None,
    base: str | Path | None = None,
    config: ModelConfig | None = None,
) -> tuple[ProcessorSource, ModelConfig, AdapterBase | None]:
    """Return the transforms of a located policy, the sizes of its network, and an adapter's base; read no weights.

    Options and errors are those of `open_policy` in `policy.py`.
    """
    options = options or PolicyOptions()
    if options.horizon is None and config is not None and location.kind in ("openpi", "jax"):
        options = replace(options, horizon=config.horizon)
    found = locate_base(location, base)
    sizes = config or read_config(location, found)
    return read_processor(location, sizes, options), sizes, found


def recorded_step(folder: Path, config: Mapping[str, Any], sidecar: Mapping[str, Any]) -> int | None:
    """Return the training step of a folder: as `config.json` or `pi05.json` tells, else by the folder's name."""
    for told in (config.get("step"), (sidecar.get("source") or {}).get("step")):
        if isinstance(told, int):
            return told
    folder = folder.resolve()
    named = folder.parent.name if folder.name == LEROBOT_FOLDER else folder.name
    return int(named) if named.isdecimal() else None


def recorded_base(config: Mapping[str, Any], sidecar: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return path and hash of the weights that training started from, where `config.json` or `pi05.json` tells."""
    for told in (config.get("base"), sidecar.get("base")):
        if isinstance(told, Mapping):
            return dict(told)
    return None


def _read_own(folder: Path, options: PolicyOptions) -> ProcessorSource:
    config = read_checkpoint_config(folder)
    if not isinstance(config.get("processor"), dict):
        raise CheckpointError(
            f"{folder} has weights but no processor, so that nobody knows its cameras and units",
            wanted="a checkpoint that training wrote",
            remedy="fine-tune it first: pi05 train --policy.path=…",
        )
    notes = [*require_unedited(config, folder / CONFIG, options.accept_edited), *_drift(config)]
    with about(folder / CONFIG):
        processor = Processor.from_dict(config["processor"], Tokenizer.load(options.tokenizer_path or folder))
    require_plausible(processor.state_stats, "the state", folder / CONFIG)
    require_plausible(processor.action_stats, "the actions", folder / CONFIG)
    if options.prompt_format not in (None, processor.prompt_format):
        raise CheckpointError(
            "the checkpoint was trained with another prompt format",
            wanted=f"{processor.prompt_format}, as its config.json says",
            found=str(options.prompt_format),
            remedy="leave prompt_format out: pi05's checkpoints tell it",
        )
    if options.rename_map:
        processor = replace(processor, slots=rename_cameras(processor.slots, options.rename_map, {}))
    return ProcessorSource(
        processor=processor,
        n_action_steps=config.get("n_action_steps"),
        notes=notes,
        max_delay=config.get("rtc_max_delay") or 0,
    )


def _drift(config: Mapping[str, Any]) -> list[str]:
    """Return what to say of a checkpoint that another version of pi05 wrote."""
    written = config.get("pi05_version")
    if written in (None, pi05.__version__):
        return []
    return [f"written by pi05 {written}, read by pi05 {pi05.__version__}: CHANGELOG.md tells what changes actions"]
