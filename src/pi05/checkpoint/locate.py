"""Which files does a path mean, and what do the small files beside them tell?

Knows the folders of pi05, LeRobot and openpi (PyTorch and JAX) by their file names. Reads no weights.

    pi05     RUN/checkpoints/STEP/   config.json ("format": "pi05")  model.safetensors | adapter_*
    LeRobot  OUT/checkpoints/STEP/pretrained_model/   config.json ("type": "pi05")  model*.safetensors | adapter_*
    openpi   EXP/STEP/   model.safetensors  assets/               PyTorch
    JAX      EXP/STEP/   params/  train_state/  assets/           orbax; released: params/ and assets/ alone
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pi05.checkpoint.file_fields import (
    ForeignConfig,
    OwnSizes,
    ShardIndex,
    about,
    read_fields,
    require_fields,
)
from pi05.checkpoint.file_names import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, INDEX, WEIGHTS
from pi05.checkpoint.lerobot.fields import LerobotConfig
from pi05.checkpoint.lerobot.names import lerobot_sizes
from pi05.checkpoint.openpi.orbax import holds_params, is_orbax
from pi05.checkpoint.run_folder import resolve_checkpoint
from pi05.checkpoint.sidecar import SIDECAR, read_sidecar
from pi05.checkpoint.store import read_checkpoint_config
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.revision import read_revision
from pi05.sources.resolve import resolve

LEROBOT_FOLDER, PARAMS, TRAIN_STATE = "pretrained_model", "params", "train_state"

FolderKind = Literal["pi05", "lerobot", "openpi", "jax", "file"]
Weights = Literal["ema", "raw"]


@dataclass(frozen=True)
class Location:
    """The weight files that a path means."""

    path: Path
    """The file or folder after following run folders and links."""
    files: list[Path]
    """The files that hold the weights; of an adapter: its own, its base is elsewhere (`peft/locate_base.py`)."""
    kind: FolderKind = "file"
    """Whose folder it is; "file" when a weight file was named itself."""
    config: ModelConfig | None = None
    """All sizes, where the folder tells them."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Some sizes, where the folder tells those."""
    index: Mapping[str, str] | None = None
    """Tensor name → file name of its shard, of a sharded checkpoint."""
    orbax: Path | None = None
    """The folder inside a JAX checkpoint that holds the weights."""
    adapter: Path | None = None
    """The folder of an adapter; None for full weights."""
    revision: str | None = None
    """Commit on the hub that the files were downloaded from, where the download noted it."""
    notes: tuple[str, ...] = ()
    """What the receipt should say of the choice."""
    given: Path = Path()
    """The path as the caller wrote it, for messages and records."""

    @property
    def folder(self) -> Path:
        """The folder whose small files describe the policy: an adapter's own, else that of the weights."""
        if self.adapter is not None:
            return self.adapter
        return self.path if self.path.is_dir() else self.path.parent


def locate(path: str | Path, weights: Weights = "ema") -> Location:
    """Find the weight files of a path, or of OWNER/NAME (with @REVISION) on the hub. Raises CheckpointError.

    This is where the file system is searched, once for each load; what reads a checkpoint takes the result.
    `weights="raw"` means the weights that training left beside their moving average in an openpi JAX folder.
    """
    given = Path(path)
    location = _find(resolve(path, "model"), weights)
    if weights == "raw" and location.kind != "jax":
        raise CheckpointError(
            "only openpi's JAX checkpoints keep raw weights beside their moving average",
            wanted="a folder with params/ and train_state/",
            found=str(location.path),
            remedy="leave the choice of weights out",
        )
    return replace(location, given=given, revision=read_revision(location.path, location.files))


def _find(path: Path, weights: Weights) -> Location:
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        raise CheckpointError(
            "there is no such checkpoint",
            wanted="a file, or a folder of pi05, LeRobot or openpi",
            found=f"nothing at {path}",
            remedy="check the path; a name on the hub is OWNER/NAME",
        )
    for inner in (path / LEROBOT_FOLDER, path / "checkpoints" / "last" / LEROBOT_FOLDER):
        if inner.is_dir():
            return _find(inner, weights)
    if _is_adapter(path):
        return _adapter(path)
    if (path / INDEX).is_file():
        index = _read_index(path)
        return replace(_described(path, _shards(path, index)), index=index)
    if (path / WEIGHTS).is_file():
        return _described(path, [path / WEIGHTS])
    if is_orbax(path):
        return _jax(path.parent if path.name in (PARAMS, TRAIN_STATE) else path, path, weights)
    if is_orbax(path / PARAMS) or is_orbax(path / TRAIN_STATE):
        return _jax(path, None, weights)
    newest = _newest_step(path)
    if newest is not None:
        return _find(newest, weights)
    folder = resolve_checkpoint(path)
    return _adapter(folder) if _is_adapter(folder) else _described(folder, [folder / WEIGHTS])


def _newest_step(path: Path) -> Path | None:
    """Return the newest step of openpi's experiment folders; a step that is still being written has another name."""
    steps = [folder for folder in path.iterdir() if folder.name.isdigit() and folder.is_dir()]
    complete = [folder for folder in steps if (folder / WEIGHTS).is_file() or is_orbax(folder / PARAMS)]
    return max(complete, key=lambda folder: int(folder.name)) if path.name != "checkpoints" and complete else None


def _file(path: Path) -> Location:
    """Describe a weight file that was named itself; its neighbour config.json counts when it is a checkpoint's."""
    if path.suffix == ".npz":
        return Location(path, [path])
    if path.suffix != ".safetensors":
        raise CheckpointError(
            "this kind of weight file cannot be read",
            wanted=".safetensors or .npz",
            found=str(path),
            remedy="give a .safetensors file; pickled PyTorch files can run code and are not opened",
        )
    if path.name == ADAPTER_WEIGHTS and _is_adapter(path.parent):
        return _adapter(path.parent)
    return replace(_described(path.parent, [path]), path=path, kind="file")


def _read_index(folder: Path) -> dict[str, str]:
    """Return tensor name → file name of a sharded checkpoint."""
    index: dict[str, str] = read_fields(folder / INDEX, ShardIndex)["weight_map"]
    if any(Path(name).name != name for name in index.values()):
        raise CheckpointError(
            "the index of the sharded checkpoint is damaged",
            wanted='"weight_map" with the name of a file beside it for each tensor',
            found=f"{folder / INDEX}: {str(index)[:100]}",
            remedy="copy or download the checkpoint again",
        )
    return index


def _shards(folder: Path, index: Mapping[str, str]) -> list[Path]:
    """Return the shards: the files that a sharded checkpoint's index names. Raises CheckpointError for missing ones."""
    files = [folder / name for name in sorted(set(index.values()))]
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise CheckpointError(
            "parts of the sharded checkpoint are missing",
            wanted=f"{len(files)} files in {folder}",
            found=f"no {', '.join(absent)}",
            remedy="copy or download the missing files",
        )
    return files


def _described(folder: Path, files: list[Path]) -> Location:
    """Add what the small files of the folder tell: whose it is, and the sizes. The folder's own files go first."""
    config = read_config_file(folder)
    if "format" in config:
        own = read_checkpoint_config(folder)
        require_fields(own, OwnSizes, folder / CONFIG)
        with about(folder / CONFIG):
            sizes = ModelConfig.from_dict(own["model"])
        return Location(folder, files, "pi05", config=sizes)
    told = _told_sizes(config)
    sidecar = read_sidecar(folder)
    kind: FolderKind = "lerobot" if "type" in config else "openpi"
    if sidecar is None or "model" not in sidecar:
        return Location(folder, files, kind, sizes=told)
    with about(folder / SIDECAR):
        sizes = replace(ModelConfig.from_dict(sidecar["model"]), **told)
    return Location(folder, files, kind, config=sizes, sizes=told)


def _told_sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes that LeRobot's config.json tells, or the one that openpi's converter from JAX writes."""
    if "type" in config:
        return lerobot_sizes(config)
    return {"horizon": config["action_horizon"]} if "action_horizon" in config else {}


def read_config_file(folder: Path) -> dict[str, Any]:
    """Read `config.json`, whoever wrote it; empty when there is none. Raises CheckpointError for a damaged one."""
    path = folder / CONFIG
    if not path.is_file():
        return {}
    config = read_fields(path, ForeignConfig)
    if "format" not in config and "type" in config:
        require_fields(config, LerobotConfig, path)
    return config


def _is_adapter(folder: Path) -> bool:
    """Say whether a folder holds an adapter. Raises CheckpointError when full weights lie beside it and none is meant.

    pi05 and LeRobot say in config.json which of the two a folder is.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return False
    config = read_config_file(folder)
    said = config.get("adapter", config.get("use_peft"))
    if isinstance(said, bool):
        return said
    if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        raise CheckpointError(
            "the folder holds full weights and an adapter, and nothing says which is meant",
            wanted='one of them, or "use_peft" in config.json',
            found=f"{WEIGHTS} and {ADAPTER_CONFIG} in {folder}",
            remedy="move the adapter into a folder of its own",
        )
    return True


def _adapter(folder: Path) -> Location:
    described = _described(folder, [folder / ADAPTER_WEIGHTS])
    kind: FolderKind = "pi05" if described.kind == "pi05" else "lerobot"
    return replace(described, kind=kind, adapter=folder)


def _jax(step: Path, named: Path | None, weights: Weights) -> Location:
    """Choose the item of a JAX checkpoint: the moving average in params/, or the raw weights in train_state/.

    `named` is the item that the path was, if it was one.
    """
    state = step / TRAIN_STATE
    item = named if named is not None and named != state else step / PARAMS
    notes: tuple[str, ...] = ()
    if named == state and weights == "ema":
        weights = "raw"
    if weights == "raw" and not is_orbax(state):
        raise CheckpointError(
            "the JAX checkpoint holds no raw weights",
            wanted=str(state),
            found="no such folder; released checkpoints hold the moving average only",
            remedy="leave the choice of weights out, or give a checkpoint that training wrote",
        )
    if weights == "raw" and holds_params(state):
        item, notes = state, ("raw weights out of train_state/, not their moving average",)
    elif weights == "raw":
        notes = ("trained without a moving average: params/ holds the raw weights",)
    if not is_orbax(item):
        raise CheckpointError(
            "the JAX checkpoint is incomplete",
            wanted=str(item),
            found="no such folder",
            remedy="copy or download the whole step again",
        )
    files = sorted(path for path in item.rglob("*") if path.is_file())
    sidecar = read_sidecar(step)
    with about(step / SIDECAR):
        config = ModelConfig.from_dict(sidecar["model"]) if sidecar is not None and "model" in sidecar else None
    return Location(step, files, "jax", config=config, orbax=item, notes=notes)
