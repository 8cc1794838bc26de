"""Files that survive a crash: written under a temporary name, fsynced, renamed; and the disk-space check before them.

Leaves out what the files mean (`store.py`).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

from pi05.errors import CheckpointError, TrainingError

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_HEADROOM = 16 * 2**20


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that readers and crashes see the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically. Raises ValueError for NaN, which JSON has not."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises CheckpointError when the file is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.name} is missing", wanted=str(path), remedy="give the path of a complete run or checkpoint folder"
        ) from error
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read", found=str(error), remedy="restore the file, or use another checkpoint"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object", found=type(value).__name__, remedy="restore the file")
    return value


def require_space(folder: Path, size_bytes: int, what: str) -> None:
    """Raise TrainingError when the disk of `folder` has no room for `what` and a little more."""
    needed, free = size_bytes + min(_HEADROOM, size_bytes), shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"no room on the disk for {what}; earlier checkpoints are intact",
            wanted=f"{needed / 1e6:.1f} MB free under {folder}",
            found=f"{free / 1e6:.1f} MB",
            remedy="free disk space, or lower --keep_checkpoints, then continue with --resume; or start again with "
            "--output_dir on a larger disk",
        )


def remove_tree(path: Path) -> None:
    """Delete a file, a link or a folder with all it holds, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def sync_file(path: Path) -> None:
    """Put the content of a file on disk, so that it survives a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Put the names in `folder` on disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
