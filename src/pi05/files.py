"""Files on disk: written so that they survive a crash, the room for them, JSON objects, pointers of Git LFS.

Every file is written under a temporary name (`temporary.py`), put on disk (fsync) and renamed. Knows nothing of what is
in the files, and no errors but those that its callers name.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pi05.errors import CheckpointError, ConfigError, UserError
from pi05.temporary import temporary_file

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
HEADROOM = 16 * 2**20
"""Room that stays free beside what is written, in bytes; beside less than that, as much again."""
LARGEST_JSON = 128 * 2**20
"""Bytes of the largest JSON file that is read."""
DEEPEST = 64
"""Levels of nesting in a JSON file, far above any that is meant."""
LFS_HEAD = b"version https://git-lfs"
"""How a Git LFS pointer begins: a text file of about 130 bytes that stands where the real file should be."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it takes the place of `path` when the block ends well.

    Readers and crashes see the old content or the new one, never a part. After any other end the old one is left. What
    a killed process left is removed by the next one that writes the same file (`temporary.py`).
    """
    with temporary_file(path) as temporary:
        try:
            yield temporary
            sync(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync(path.parent)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically. Raises ValueError for NaN, which JSON has not."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_regular(path: Path, most_bytes: int = LARGEST_JSON) -> bytes:
    """Read a small file whole. Raises OSError for what is no file: a device or a pipe would be read without end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # without it, opening a pipe waits for a writer
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "a device or a pipe, not a file", str(path))
        if facts.st_size > most_bytes:
            raise OSError(errno.EFBIG, f"{size_text(facts.st_size)}, where at most {size_text(most_bytes)} make sense")
        return file.read()


def require_regular(path: Path) -> None:
    """Raise OSError for a path that is there and no file: a device or a pipe would be read without end."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a device, a pipe or a folder, not a file", str(path))


def inside(folder: Path, name: str, told_by: object, error: type[UserError], whole: str = "its folder") -> Path:
    """Return the file of a folder that one of its files, `told_by`, names. Raises `error` for a name that leads out.

    `whole` is what the folder is to a user.
    The name counts, not where a link of the folder leads: the hub's cache holds links to files elsewhere.
    """
    given = PurePosixPath(name)
    if given.is_absolute() or ".." in given.parts or "\\" in name or "\0" in name or not given.parts:
        raise error(
            f"{told_by} names a file outside {whole}",
            wanted=f"the name of a file in {folder}",
            found=ascii(name[:200]),
            remedy="put the file into that folder, and correct the name",
        )
    return folder / name


def parse_json(text: str) -> Any:
    """Parse JSON from outside, strictly. Raises ValueError for damage, and for what JSON cannot mean.

    Refused are NaN and infinity (1e999 too), two values of one name, whole numbers beyond 64 bits, halves of
    surrogate pairs and NUL in texts (no file name or terminal takes them), and nesting without end.
    """
    try:
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_once,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        depth += 1
        inner: list[Any] = []
        for entry in level:
            texts = (*entry, *entry.values()) if isinstance(entry, dict) else entry if type(entry) is list else (entry,)
            for part in texts:
                if isinstance(part, dict | list):
                    inner.append(part)
                elif isinstance(part, str) and _NO_TEXT.search(part):
                    raise ValueError(f"a text with a character that cannot be: {part[:40]!a}")
        level = inner
    return value


_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} where a finite number should be")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _whole(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"{text[:20]}… is too large for a whole number")
    return int(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"the name {twice[:40]!r} occurs twice")
    return values


def parse_object(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises OSError, and ValueError when the file is damaged or holds something else."""
    value = parse_json(read_regular(path).decode("utf-8-sig"))  # editors of Windows put a byte-order mark first
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__} where an object should be")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run or a checkpoint. Raises CheckpointError when the file is missing or damaged."""
    try:
        return parse_object(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.name} is missing", wanted=str(path), remedy="give the path of a complete run or checkpoint folder"
        ) from error
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read", found=str(error), remedy="restore the file, or use another checkpoint"
        ) from error


def read_notes(path: Path) -> dict[str, Any]:
    """Read a JSON object that decides nothing; empty when the file is missing or damaged."""
    try:
        return parse_object(path)
    except (OSError, ValueError):
        return {}


def require_space(folder: Path, size_bytes: int, what: str, error: type[UserError], remedy: str) -> None:
    """Raise `error` when the disk of `folder` has no room for `what` and a little more."""
    needed = size_bytes + min(HEADROOM, size_bytes)
    if free_bytes(folder) < needed:
        raise no_space(folder, needed, what, error, remedy)


def no_space(folder: Path, size_bytes: int, what: str, error: type[UserError], remedy: str) -> UserError:
    """Return what the user is told when the disk of `folder` is full."""
    return error(
        f"no room on the disk for {what}",
        wanted=f"{size_bytes / 1e6:,.1f} MB free under {folder}",  # to the digit: the two may be close
        found=f"{free_bytes(folder) / 1e6:,.1f} MB",
        remedy=remedy,
    )


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that `folder` lies on."""
    return shutil.disk_usage(folder).free


def size_text(size_bytes: int) -> str:
    """Return a size as text, to three digits."""
    amount = float(size_bytes)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.4g} GB"


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` replaced. Raises ConfigError where nobody knows the home: no HOME, no entry in passwd."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"nobody knows what ~ means in {os.fspath(path)}",
            wanted="HOME, or an entry of this user in /etc/passwd",
            found=str(error),
            remedy="set HOME, or write the path in full",
        ) from error


def remove_tree(path: Path) -> None:
    """Delete a file, a link or a folder with all it holds, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def sync(path: Path) -> None:
    """Put the content of a file, or the names in a folder, on disk, so that it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_lfs_pointer(path: Path) -> bool:
    """Say whether a file is what git leaves in the place of a large one when git-lfs is not installed."""
    with path.open("rb") as file:
        return file.read(len(LFS_HEAD)) == LFS_HEAD
