"""Which files does a path mean, and what does the `config.json` beside them tell?

Knows the folders of pi05, LeRobot and openpi by their file names. Names what cannot be read yet: openpi's JAX folders
(orbax) and adapters. Reads no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pi05.checkpoint.files import read_json
from pi05.checkpoint.lerobot import lerobot_sizes
from pi05.checkpoint.store import read_checkpoint_config, resolve_checkpoint
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
LEROBOT_FOLDER = "pretrained_model"


@dataclass(frozen=True)
class Location:
    """The weight files that a path means."""

    path: Path
    """The file or folder after following run folders and links."""
    files: list[Path]
    config: ModelConfig | None = None
    """All sizes, where the folder tells them."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Some sizes, where the folder tells those."""


def locate(path: str | Path) -> Location:
    """Find the weight files. Raises CheckpointError naming what was looked for."""
    path = Path(path).expanduser()
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        raise CheckpointError(
            "there is no such checkpoint",
            wanted="a file, or a folder of pi05, LeRobot or openpi",
            found=f"nothing at {path}",
            remedy="check the path; weights on a hub have to be downloaded first",
        )
    for inner in (path / LEROBOT_FOLDER, path / "checkpoints" / "last" / LEROBOT_FOLDER):
        if inner.is_dir():
            return locate(inner)
    if (path / INDEX).is_file():
        return _described(path, _shards(path))
    if (path / WEIGHTS).is_file():
        return _described(path, [path / WEIGHTS])
    _refuse_unreadable(path)
    folder = resolve_checkpoint(path)
    return _described(folder, [folder / WEIGHTS])


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
    return _described(path.parent, [path], path)


def _shards(folder: Path) -> list[Path]:
    """Return the files that a sharded checkpoint's index names."""
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(
            "the index of the sharded checkpoint is damaged",
            wanted='"weight_map" with a file for each tensor',
            found=f"{folder / INDEX}: {type(index).__name__}",
            remedy="copy or download the checkpoint again",
        )
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


def _described(folder: Path, files: list[Path], path: Path | None = None) -> Location:
    """Add what the folder's config.json tells about the sizes."""
    path = path or folder
    if not (folder / CONFIG).is_file():
        return Location(path, files)
    config = read_json(folder / CONFIG)
    if "format" in config:
        return Location(path, files, config=ModelConfig.from_dict(read_checkpoint_config(folder)["model"]))
    if "type" in config:
        return Location(path, files, sizes=lerobot_sizes(config))
    horizon = config.get("action_horizon")  # what openpi's converter from JAX writes
    return Location(path, files, sizes={"horizon": horizon} if isinstance(horizon, int) else {})


def _refuse_unreadable(path: Path) -> None:
    """Name the layouts that this version knows but does not read."""
    if (path / "adapter_config.json").is_file():
        raise CheckpointError(
            "adapters (LoRA) cannot be read yet",
            wanted="full weights",
            found=f"adapter_config.json in {path}",
            remedy="merge the adapter into its base with the program that made it, and give the merged checkpoint",
        )
    for folder in (path, path / "params"):
        if (folder / "_METADATA").is_file() or (folder / "manifest.ocdbt").is_file():
            raise CheckpointError(
                "openpi's JAX checkpoint folders (orbax) cannot be read yet",
                wanted="PyTorch weights, or JAX parameters as one .npz file",
                found=f"an orbax checkpoint in {folder}",
                remedy="convert it with openpi's examples/convert_jax_model_to_pytorch.py",
            )
