"""The frozen weights below the adapters of a LoRA run, kept inside the run, so that its folder is all one needs.

An adapter is worth nothing on other weights than those it was trained on, and a path does not keep them: LeRobot's
`checkpoints/last` moves when its run goes on. So RUN/base holds them: hard links where the file system allows, else
copies; or, where the base was an adapter itself, the merged weights. Every checkpoint records their hash.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pi05.checkpoint.file_names import CONFIG, INDEX, WEIGHTS
from pi05.checkpoint.locate import Location
from pi05.checkpoint.sidecar import SIDECAR
from pi05.checkpoint.store import Checkpoint, require_checkpoint_space, save_checkpoint
from pi05.checkpoint.tensors import TensorFiles, combine_hashes
from pi05.files import remove_tree, sync

FOLDER = "base"
FROM_CHECKPOINT = Path("..", "..", FOLDER)
"""From RUN/checkpoints/STEP to RUN/base, so that a run can be moved."""
_PARTIAL = ".partial-base"
_DESCRIPTIONS = (CONFIG, INDEX, SIDECAR)
"""Small files beside the weights that tell the network's sizes; copied, because their owners edit them in place."""

Tell = Callable[[str], None]


def keep_base(run: Path, location: Location, sha256: str, tell: Tell) -> dict[str, str]:
    """Link or copy located weights into the run, all or nothing; return what its checkpoints record of them.

    Raises TrainingError when a copy is needed and the disk has no room for it.
    """
    single = location.path.is_file()
    folder = location.path.parent if single else location.path
    weights = sorted(file for path in location.files for file in _files_below(path))
    beside = [folder / name for name in _DESCRIPTIONS if (folder / name).is_file() and folder / name not in weights]
    partial = run / _PARTIAL
    remove_tree(partial)
    partial.mkdir(parents=True)
    copied = _place(weights, folder, partial, tell)
    for path in beside:
        _copy(path, partial / path.name)
    sync(partial)
    _publish(run)
    size = sum(path.stat().st_size for path in weights)
    how = "copied" if copied else "linked"
    tell(f"base: {len(weights)} file{'s' * (len(weights) != 1)}, {size / 1e6:,.1f} MB, {how} into {run / FOLDER}")
    path = FROM_CHECKPOINT / location.path.name if single else FROM_CHECKPOINT
    return {"path": str(path), "sha256": sha256, "source": str(location.given.absolute())}


def keep_merged(
    run: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str, tell: Tell
) -> dict[str, str]:
    """Write weights under our names as the run's base; return what its checkpoints record of them.

    For a base that was an adapter: `weights` are those of its base with it merged, `config` holds the sizes.
    """
    remove_tree(run / _PARTIAL)
    folder = save_checkpoint(run / _PARTIAL, Checkpoint(config=config, weights=weights))
    sha256 = combine_hashes(TensorFiles([folder / WEIGHTS]).hashes())
    _publish(run)
    size = (run / FOLDER / WEIGHTS).stat().st_size
    tell(f"base: {source} merged with its own base, {size / 1e6:,.1f} MB, written to {run / FOLDER}")
    return {"path": str(FROM_CHECKPOINT), "sha256": sha256, "source": str(Path(source).absolute())}


def _files_below(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _place(files: list[Path], root: Path, target: Path, tell: Tell) -> bool:
    """Link each file below `target` as it lies below `root`, or copy all; return whether they were copied."""
    for file in files:
        place = target / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), place)  # resolved: the hub's cache holds links to the files
        except OSError:  # another disk, or a file system without hard links
            break
    else:
        return False
    size = sum(file.stat().st_size for file in files)
    require_checkpoint_space(target, size, "a copy of the base weights inside the run")
    tell(f"base: copying {size / 1e9:,.1f} GB into the run, which cannot be linked from {root}")
    for file in files:
        place = target / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        _copy(file, place)
    return True


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    sync(target)


def _publish(run: Path) -> None:
    """Give the finished folder its name. What bears it already is of a start that saved no checkpoint."""
    remove_tree(run / FOLDER)
    (run / _PARTIAL).rename(run / FOLDER)
    sync(run)
