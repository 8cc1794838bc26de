"""Checkpoint folders, and how they are written so that a crash costs nothing that was complete.

    FOLDER/   config.json  model.safetensors  tokenizer.*  training_state/

An adapter's folder holds `adapter_*` instead of `model.safetensors`; where a run keeps its checkpoints is told in
`run_folder.py`.

Every file is written under a temporary name, fsynced and renamed; a checkpoint folder gets its final name only when all
of it is on disk, and loses that name before it is deleted. So a folder with a step as its name is complete, whenever
the process was killed. This module knows no network and no tensor names of others; `lerobot/names.py` and its
neighbours do.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from pi05.checkpoint.file_fields import OwnConfig, TrainingFields, read_fields, require_fields
from pi05.checkpoint.file_names import ADAPTER_WEIGHTS, CONFIG, WEIGHTS
from pi05.checkpoint.own.fingerprint import with_fingerprint
from pi05.errors import CheckpointError, TrainingError
from pi05.files import (
    DISK_ERRORS,
    read_json,
    remove_tree,
    require_space,
    size_text,
    sync,
    write_atomic,
    write_json,
)

FORMAT = "pi05"
FORMAT_VERSION = 1
TRAINING = "training_state"
OPTIMIZER, RAW_WEIGHTS, STATE_FILE = "optimizer.safetensors", "raw.safetensors", "state.json"
PARTIAL = ".partial-"
"""Begins the name of a checkpoint folder that is being written."""


@dataclass(frozen=True, kw_only=True)
class TrainingFiles:
    """What resume needs beyond the weights: plain state, optimizer tensors, and the raw weights under EMA."""

    state: Mapping[str, Any]
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    raw_weights: Mapping[str, Tensor] | None = None
    write: Callable[[Path], None] | None = None
    """Writes the tensors into training_state/ in another way, in the place of the two files."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of one checkpoint folder. `config` goes to config.json, with format, version and fingerprint."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    """Of an adapter checkpoint: what was trained; when read: empty, since the files have foreign names."""
    adapter: Callable[[Path], None] | None = None
    """Writes the adapter's files into a folder, in the place of model.safetensors; or that file in another way."""
    tokenizer_name: str | None = None
    tokenizer_bytes: bytes | None = None
    training: TrainingFiles | None = None

    def size_bytes(self) -> int:
        """Return about how much disk the checkpoint takes."""
        groups: list[Mapping[str, Tensor]] = [self.weights]
        if self.training is not None:
            groups += [self.training.optimizer, self.training.raw_weights or {}]
        tensors = sum(tensor.numel() * tensor.element_size() for group in groups for tensor in group.values())
        return tensors + len(self.tokenizer_bytes or b"") + 2**16


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint folder: all of it, or nothing.

    Raises CheckpointError when `folder` exists and TrainingError when the disk is full; what was there stays intact.
    """
    if folder.exists():
        raise CheckpointError(
            "the checkpoint folder exists already",
            found=str(folder),
            remedy="choose another folder, or remove this one",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    require_checkpoint_space(folder.parent, checkpoint.size_bytes(), f"the checkpoint {folder.name}")
    partial = partial_folder(folder)
    remove_tree(partial)
    try:
        _write_files(partial, checkpoint)
        partial.rename(folder)
        sync(folder.parent)
    except (OSError, safetensors.SafetensorError) as error:
        remove_tree(partial)
        if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
            raise
        raise unwritable(folder, checkpoint, error) from error
    return folder


def require_checkpoint_space(folder: Path, size_bytes: int, what: str) -> None:
    """Raise TrainingError when the disk of a run has no room for `what` and a little more."""
    remedy = (
        "earlier checkpoints are intact: free disk space, or lower --keep_checkpoints, then continue with --resume; or "
        "start again with --output_dir on a larger disk"
    )
    require_space(folder, size_bytes, what, TrainingError, remedy)


def unwritable(folder: Path, checkpoint: Checkpoint, error: Exception) -> TrainingError:
    """Return what the user is told when the disk is full."""
    return TrainingError(
        f"the checkpoint {folder.name} could not be written; earlier checkpoints are intact",
        wanted=f"{size_text(checkpoint.size_bytes())} under {folder.parent}",
        found=str(error),
        remedy="free disk space, then continue with --resume",
    )


def partial_folder(folder: Path) -> Path:
    """Return where a checkpoint folder lies while it is being written."""
    return folder.parent / f"{PARTIAL}{folder.name}"


def _write_files(partial: Path, checkpoint: Checkpoint) -> None:
    partial.mkdir()
    if checkpoint.adapter is None:
        _write_tensors(partial / WEIGHTS, checkpoint.weights)
    else:
        checkpoint.adapter(partial)
        for path in partial.iterdir():
            sync(path)
    if checkpoint.tokenizer_name is not None and checkpoint.tokenizer_bytes is not None:
        write_atomic(partial / checkpoint.tokenizer_name, checkpoint.tokenizer_bytes)
    if checkpoint.training is not None:
        training = partial / TRAINING
        training.mkdir()
        if checkpoint.training.write is not None:
            checkpoint.training.write(training)
        else:
            _write_tensors(training / OPTIMIZER, checkpoint.training.optimizer)
            if checkpoint.training.raw_weights is not None:
                _write_tensors(training / RAW_WEIGHTS, checkpoint.training.raw_weights)
        write_json(training / STATE_FILE, dict(checkpoint.training.state))
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, **checkpoint.config}
    write_json(partial / CONFIG, with_fingerprint(config))
    sync(partial)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    path.touch()
    permissions = stat.S_IMODE(path.stat().st_mode)  # safetensors writes files that only their owner may read
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(permissions)
    sync(path)


def load_checkpoint(folder: Path, *, training: bool = False, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint folder; `training` asks for what resume needs too.

    Raises CheckpointError when files are missing or damaged, or were written by a newer format.
    """
    config = read_checkpoint_config(folder)
    tokenizers = [path for path in (folder / "tokenizer.json", folder / "tokenizer.model") if path.is_file()]
    files: TrainingFiles | None = None
    if training:
        state = read_training_state(folder)
        raw = folder / TRAINING / RAW_WEIGHTS
        files = TrainingFiles(
            state=state,
            optimizer=_read_tensors(folder / TRAINING / OPTIMIZER, device),
            raw_weights=_read_tensors(raw, device) if raw.is_file() else None,
        )
    return Checkpoint(
        config=config,
        weights={} if is_adapter(folder) else _read_tensors(folder / WEIGHTS, device),
        tokenizer_name=tokenizers[0].name if tokenizers else None,
        tokenizer_bytes=tokenizers[0].read_bytes() if tokenizers else None,
        training=files,
    )


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter, and the weights below it lie elsewhere."""
    return (folder / ADAPTER_WEIGHTS).is_file() and not (folder / WEIGHTS).is_file()


def read_training_state(folder: Path) -> dict[str, Any]:
    """Read the plain part of a checkpoint's training state, without its tensors."""
    return read_fields(folder / TRAINING / STATE_FILE, TrainingFields)


def read_noted_data(folder: Path) -> dict[str, Any]:
    """Return what a run has noted of its data: hashes and episodes; nothing where only its weights were kept."""
    if not (folder / TRAINING / STATE_FILE).is_file():
        return {}
    return dict(read_training_state(folder).get("data") or {})


def read_checkpoint_config(folder: Path) -> dict[str, Any]:
    """Read and check `config.json` of a checkpoint folder, without its weights."""
    config = read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} is not a pi05 checkpoint",
            wanted=f'"format": "{FORMAT}" in {CONFIG}',
            found=repr(config.get("format")),
            remedy="give a checkpoint folder that pi05 wrote",
        )
    version = config.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} was written by a newer pi05",
            wanted=f"format_version up to {FORMAT_VERSION}",
            found=f"{version!r}, pi05 {config.get('pi05_version')}",
            remedy="upgrade pi05",
        )
    require_fields(config, OwnConfig, folder / CONFIG)
    return config


def _read_tensors(path: Path, device: str) -> dict[str, Tensor]:
    try:
        return load_file(path, device=device)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.name} is missing", wanted=str(path), remedy="use another checkpoint of the run"
        ) from error
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged", found=str(error), remedy="use another checkpoint of the run, or copy it again"
        ) from error
