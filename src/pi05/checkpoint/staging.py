"""A folder that appears whole or not at all: built under a temporary name beside its place, then renamed.

For folders that a user names (exports). Checkpoints of a run are written by `store.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pi05.errors import CheckpointError
from pi05.files import DISK_ERRORS, remove_tree, require_space, size_text, sync
from pi05.temporary import remove_leftovers, rename_folder, temporary_folder


def require_absent(out: Path) -> None:
    """Raise CheckpointError when something is at `out` already."""
    if out.exists() or out.is_symlink():
        raise CheckpointError(
            "the folder to write exists already",
            wanted="a path where nothing is",
            found=str(out),
            remedy="choose another folder, or remove this one",
        )


@contextmanager
def staged_folder(out: Path, size_bytes: int) -> Iterator[Path]:
    """Yield a new folder that becomes `out` when the block ends well; after any other end nothing is left.

    While it is written it holds one file, the writer's lock; what a killed process left is removed (`temporary.py`).

    `size_bytes` is about what will be written. Raises CheckpointError when `out` exists, when the disk has not that
    much room, and when it fills up on the way.
    """
    out = out.absolute()
    require_absent(out)
    missing = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out.parent, out.name)
        require_space(out.parent, size_bytes, out.name, CheckpointError, "free disk space, or write to another disk")
        with temporary_folder(out) as partial:
            try:
                yield partial
                sync(partial)
                require_absent(out)
                rename_folder(partial, out)
                sync(out.parent)
            except BaseException:
                remove_tree(partial)
                raise
    except BaseException as error:
        for folder in missing:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise CheckpointError(
                f"{out.name} could not be written, and nothing of it is left",
                wanted=f"{size_text(size_bytes)} under {out.parent}",
                found=str(error),
                remedy="free disk space, or write to another disk",
            ) from error
        raise
