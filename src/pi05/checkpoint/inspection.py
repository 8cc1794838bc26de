"""What is in a checkpoint, told without loading its weights: `pi05 inspect`.

Works on every layout that can be read, adapters and run folders included. What the folder does not tell is listed, not
guessed. Reads names and shapes of the tensors, the small files beside them, and, for hashes, the bytes of the files.
How the facts are shown is in `commands/inspect.py`.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi05.checkpoint.accounting import tell_names
from pi05.checkpoint.file_fields import AdapterNames, read_fields
from pi05.checkpoint.file_names import ADAPTER_CONFIG
from pi05.checkpoint.locate import Location, locate, read_config_file
from pi05.checkpoint.openpi.read import find_assets, read_norm_stats
from pi05.checkpoint.own.fingerprint import edited_fields
from pi05.checkpoint.peft.load import adapted_sizes
from pi05.checkpoint.peft.locate_base import AdapterBase, locate_base
from pi05.checkpoint.policy_folder import read_processor, recorded_base, recorded_step
from pi05.checkpoint.policy_options import ProcessorSource
from pi05.checkpoint.sidecar import read_sidecar
from pi05.checkpoint.tensors import TensorFiles, combine_hashes, hash_file
from pi05.checkpoint.weights import decide_sizes, open_tensors
from pi05.data.cameras import SLOTS
from pi05.data.joined import columns_to_list
from pi05.data.statistics import DimStats, Statistics
from pi05.errors import UserError, tell
from pi05.model.config import ModelConfig

Facts = dict[str, Any]
TITLES = {"pi05": "pi05", "lerobot": "LeRobot", "openpi": "openpi PyTorch", "jax": "openpi JAX", "file": "weight file"}
LARGE = 2**30
"""Files from this size on are announced while they are hashed."""
_ADAPTER_FIELDS = ("peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "modules_to_save")


def inspect_checkpoint(path: str | Path, *, hash_files: bool = True) -> Facts:
    """Return what is known of the checkpoint, as plain data. Raises CheckpointError when there is none at `path`."""
    location = locate(path)
    folder = location.folder
    unknown: dict[str, str] = {}
    base = _find_base(location, unknown)
    tensors, sizes = _weights(location, base, unknown)
    config = read_config_file(folder)
    sidecar = read_sidecar(folder) or {}
    facts: Facts = {
        "path": str(location.path.resolve()),
        "layout": TITLES[location.kind] + (" adapter" if location.adapter is not None else ""),
        "step": recorded_step(folder, config, sidecar),
        "revision": location.revision,
        **tensors,
        "sizes": None if sizes is None else sizes.to_dict(),
        "statistics": _statistics(location, folder),
        "policy": _policy(location, sizes, unknown),
        "fingerprint": _fingerprint(location, config),
        "base": _base(location, base, recorded_base(config, sidecar), unknown),
        "adapter": _adapter(location),
        "export": _export(sidecar),
        "files": _hash(location, hash_files),
        "notes": list(location.notes),
    }
    hashes = {name: entry["sha256"] for name, entry in facts["files"].items()}
    facts["sha256"] = combine_hashes(hashes) if hash_files else None
    return {**facts, "unknown": unknown}


def _fingerprint(location: Location, config: Mapping[str, Any]) -> str | None:
    """Return whether `config.json` is as training wrote it; None for folders that have no such record."""
    if location.kind != "pi05" or not isinstance(config.get("processor"), dict):
        return None
    edited = edited_fields(config)
    if edited:
        return f"edited after training: {', '.join(edited)}"
    if edited is not None:
        return "config.json is as it was written"
    told = "none: written before there were fingerprints, so an edited config.json would not be noticed"
    stored = config.get("statistics")
    stats = [DimStats.from_dict(config["processor"][f"{kind}_stats"]) for kind in ("state", "action")]
    if isinstance(stored, str) and Statistics(stats[0], stats[1], []).sha256 != stored:
        told += "; the statistics are not those of the training data: taken from a base (--stats=checkpoint), or edited"
    return told


def _find_base(location: Location, unknown: dict[str, str]) -> AdapterBase | None:
    try:
        return locate_base(location)
    except UserError as error:
        unknown["base"] = _said(error)
        return None


def _weights(location: Location, base: AdapterBase | None, unknown: dict[str, str]) -> tuple[Facts, ModelConfig | None]:
    """Return tensors, numbers, precisions, and the network's sizes where they are told."""
    source = TensorFiles(location.files, location.index) if location.adapter is not None else open_tensors(location)
    facts: Facts = {
        "tensors": len(source.shapes),
        "parameters": sum(math.prod(shape) for shape in source.shapes.values()),
        "bytes": source.bytes,
        "precision": _precision(location),
    }
    try:
        if base is not None:
            return facts, adapted_sizes(location, base)
        if location.adapter is not None:
            if location.config is None:
                unknown["sizes"] = unknown["base"]
            return facts, location.config
        facts["names"] = tell_names(source.shapes, location)
        return facts, decide_sizes(location, source.shapes, None)
    except UserError as error:
        unknown["sizes"] = _said(error)
        return facts, None


def _precision(location: Location) -> dict[str, int] | None:
    """Return element type → number of tensors, of safetensors files; None for others."""
    counted: Counter[str] = Counter()
    for path in location.files:
        if path.suffix != ".safetensors":
            return None
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        counted.update(entry["dtype"] for name, entry in header.items() if name != "__metadata__")
    return dict(counted.most_common())


def _policy(location: Location, sizes: ModelConfig | None, unknown: dict[str, str]) -> Facts | None:
    """Return cameras, units and rates; None where the folder is no complete policy, with the reason in `unknown`."""
    if sizes is None:
        unknown["policy"] = "the network's sizes are needed first"
        return None
    try:
        read = read_processor(location, sizes)
    except UserError as error:
        unknown["policy"] = _said(error)
        return None
    processor = read.processor
    for name, value in (("control rate", processor.fps), ("actions to execute at once", read.n_action_steps)):
        if value is None:
            unknown[name] = "no file tells it"
    for kind, names in (("action", processor.action_names), ("state", processor.state_names)):
        if not names:
            unknown[f"names of the {kind} dimensions"] = "no file tells them"
    return _describe(read)


def _statistics(location: Location, folder: Path) -> dict[str, Facts] | None:
    """Return asset id → dimensions, of an openpi folder; the other layouts have one set of statistics."""
    if location.kind not in ("openpi", "jax"):
        return None
    found: dict[str, Facts] = {}
    for asset_id, path in find_assets(folder).items():
        try:
            state, actions = read_norm_stats(path, [])
        except UserError as error:
            found[asset_id] = {"unreadable": _said(error)}
        else:
            found[asset_id] = {"state": state.dim, "actions": actions.dim}
    return found


def _describe(read: ProcessorSource) -> Facts:
    processor = read.processor
    mask = processor.relative_mask
    return {
        "cameras": {slot: processor.slots.by_slot[slot] for slot in SLOTS},
        "cameras_dropped": list(processor.slots.dropped),
        "image_size": processor.image_size,
        "resize": processor.resize,
        "state": {
            "dimensions": processor.state_dim,
            "names": list(processor.state_names),
            "columns": columns_to_list(processor.state_columns),
        },
        "action": {
            "dimensions": processor.robot_action_dim,
            "names": list(processor.action_names),
            "columns": columns_to_list(processor.action_columns),
            "representation": "absolute" if mask is None else "relative to the state at the chunk's start",
            "relative": None if mask is None else list(mask),
        },
        "normalization": dict(processor.normalization),
        "formula": processor.formula,
        "prompt_format": processor.prompt_format,
        "max_prompt_tokens": processor.max_prompt_tokens,
        "tokenizer": {"file": processor.tokenizer.file_name, "sha256": processor.tokenizer.sha256},
        "horizon": processor.horizon,
        "n_action_steps": read.n_action_steps,
        "rtc_max_delay": read.max_delay,
        "fps": processor.fps,
        "notes": list(read.notes),
    }


def _base(location: Location, base: AdapterBase | None, told: Facts | None, unknown: dict[str, str]) -> Facts | None:
    """Return the base: of an adapter the weights that it needs, else those that training started from."""
    if location.adapter is None:
        return told
    if base is None:
        return None
    if base.sha256 is None:
        unknown["hash of the base"] = "the adapter records none, so another base would not be noticed"
    return {"path": str(base.location.given.resolve()), "sha256": base.sha256, "told_by": base.told_by}


def _adapter(location: Location) -> Facts | None:
    if location.adapter is None:
        return None
    config = read_fields(location.adapter / ADAPTER_CONFIG, AdapterNames)
    return {name: config.get(name) for name in _ADAPTER_FIELDS}


def _export(sidecar: Mapping[str, Any]) -> Facts | None:
    """Return what `pi05 export` noted when it wrote the folder."""
    if not sidecar:
        return None
    names = ("layout", "pi05_version", "dtype", "source", "merge", "rounding", "notes")
    return {name: sidecar[name] for name in names if name in sidecar}


def _hash(location: Location, wanted: bool) -> dict[str, Facts]:
    """Return size and SHA-256 of each weight file, by its name within the checkpoint."""
    root = location.path if location.path.is_dir() else location.path.parent
    files = {}
    for path in location.files:
        size = path.stat().st_size
        if wanted and size >= LARGE:
            tell(f"hashing {path.name}, {size / 1e9:.1f} GB …", aside=True)
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        files[name] = {"bytes": size, "sha256": hash_file(path) if wanted else None}
    return files


def _said(error: UserError) -> str:
    """Return an error as one line."""
    return error.problem if error.wanted is None else f"{error.problem}; wanted: {error.wanted}"
