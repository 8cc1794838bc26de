"""The folder of a run: where its checkpoints lie, which of them is meant, and which are deleted.

RUN/config.json  metrics.jsonl  receipt.json  step0/  report.html
RUN/checkpoints/000100/      a checkpoint, complete whenever it has this name (`store.py`)
RUN/checkpoints/last, best   relative symlinks
RUN/base/                    of a LoRA run: the frozen weights
"""

from __future__ import annotations

import os
from pathlib import Path

from pi05.checkpoint.file_names import CONFIG, WEIGHTS
from pi05.checkpoint.store import PARTIAL, is_adapter
from pi05.errors import CheckpointError
from pi05.files import remove_tree, sync
from pi05.temporary import temporary_name

LAST, BEST = "last", "best"
DELETED = ".deleted-"
"""Begins the name of a checkpoint folder that is being deleted."""


def resolve_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that `path` means: itself, `checkpoints/last` of a run, or the newest of a run."""
    if (path / WEIGHTS).is_file() or is_adapter(path):
        return path.resolve()
    checkpoints = path if path.name == "checkpoints" else path / "checkpoints"
    last = checkpoints / LAST
    if (last / WEIGHTS).is_file() or is_adapter(last):
        return last.resolve()
    complete = list_checkpoints(checkpoints.parent)
    if complete:
        return complete[-1].resolve()
    raise CheckpointError(
        "no checkpoint found",
        wanted=f"{WEIGHTS} and {CONFIG} in the folder, or a run folder with checkpoints/",
        found=f"{path} {'has neither' if path.is_dir() else 'is not a folder'}",
        remedy="give the path of a checkpoint or of a run that has saved one",
    )


def list_checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoint folders of a run, oldest first."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir() and not path.is_symlink()]
    return sorted(found, key=lambda path: int(path.name))


def checkpoint_folder(run: Path, step: int) -> Path:
    """Return where a run keeps the checkpoint of `step`."""
    return run / "checkpoints" / f"{step:06d}"


def point(run: Path, name: str, target: Path) -> None:
    """Make the symlink `checkpoints/NAME` point at `target`, atomically; where it does already, nothing is written.

    So of the processes that open a run to resume it, only the first writes: the others remove leftovers meanwhile.
    """
    if pointed(run, name) == run / "checkpoints" / target.name:
        return
    link = run / "checkpoints" / name
    if link.is_dir() and not link.is_symlink():  # a run that was copied with its links followed
        remove_tree(link)
    temporary = temporary_name(link)
    temporary.symlink_to(target.name)
    temporary.replace(link)
    sync(link.parent)


def point_best(run: Path, step: int | None) -> None:
    """Make `checkpoints/best` point at the checkpoint of the best step, as the training state knows it."""
    target = None if step is None else checkpoint_folder(run, step)
    if target is not None and target.is_dir():
        point(run, BEST, target)


def pointed(run: Path, name: str) -> Path | None:
    """Return the checkpoint folder that `checkpoints/NAME` points at, if it does."""
    link = run / "checkpoints" / name
    return link.parent / os.readlink(link) if link.is_symlink() and link.exists() else None


def keep_last(run: Path, count: int) -> list[Path]:
    """Delete all but the newest `count` checkpoints and the best one; return what was deleted."""
    best = pointed(run, BEST)
    doomed = [path for path in list_checkpoints(run)[:-count] if best is None or path.name != best.name]
    for path in doomed:
        grave = path.parent / f"{DELETED}{path.name}"
        remove_tree(grave)
        path.rename(grave)
        remove_tree(grave)
    return doomed


def remove_leftovers(run: Path) -> None:
    """Delete what a killed process left: half-written and half-deleted checkpoints, temporary files."""
    for folder in (run, run / "checkpoints", run / "step0"):
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            if path.name.startswith((PARTIAL, DELETED)):
                remove_tree(path)
            elif path.name.startswith(".") and path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)
