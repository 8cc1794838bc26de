"""Temporary files and folders: each held by its writer, and removed by the next one when its writer is dead.

What is to appear whole is made under a hidden name beside its target, `.TARGET.1a2b3c4d.tmp`, and its writer holds a
lock on it (flock; of a folder, on the file `.lock` inside). The kernel releases that lock when the process ends,
however it ends. So whoever writes the same target next removes the siblings that nobody holds: leftovers of killed
processes. No process number decides: containers on a shared disk have the same few. Where a file system knows no locks,
leftovers stay. Where locks do not reach from machine to machine (NFS mounted with `nolock`), a writer whose file was
removed ends with an error, never with a half file.

`alone` lets one process at a time make what is worth waiting for. Leaves out what is written (`files.replacing`,
`checkpoint/staging.py`).
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"
"""The file that is locked in a temporary folder."""
SECONDS_BETWEEN_LOOKS = 0.2


def temporary_name(target: Path) -> Path:
    """Return a hidden name beside `target` that nobody else uses."""
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"


@contextmanager
def temporary_file(target: Path) -> Iterator[Path]:
    """Yield an empty file beside `target`, held until the block ends; the caller renames it.

    After any other end it is removed.
    """
    with _held(target, _make_file) as path:
        yield path


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a folder beside `target` that holds `.lock` only; the caller calls `rename_folder`.

    After any other end it is removed.
    """
    with _held(target, _make_folder) as path:
        yield path


def _make_file(path: Path) -> tuple[Path, int]:
    return path, _create(path)


def _make_folder(path: Path) -> tuple[Path, int | None]:
    path.mkdir()
    with suppress(FileNotFoundError):  # whoever removes leftovers came between
        return path / LOCK, _create(path / LOCK)
    return path / LOCK, None


def _create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


@contextmanager
def _held(target: Path, make: Callable[[Path], tuple[Path, int | None]]) -> Iterator[Path]:
    """Yield a new path beside `target`, held until the block ends; removed after any error.

    `make` creates what is at the path and returns the file to lock, open; None where that has gone already.
    """
    remove_leftovers(target.parent, target.name)
    with _removed_after_errors() as made:
        while True:
            path = temporary_name(target)
            made.append(path)
            lock, handle = make(path)
            if handle is None:
                continue
            if hold(handle, lock) is not False:
                break
            os.close(handle)  # whoever removes leftovers came between
        try:
            yield path
        finally:
            os.close(handle)


@contextmanager
def _removed_after_errors() -> Iterator[list[Path]]:
    """Yield a list for what is being made, and remove that after an exception: Ctrl-C may arrive at any line."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in made:
            with suppress(OSError):
                _remove_whole(path)
        raise


def _remove_whole(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def rename_folder(temporary: Path, target: Path) -> None:
    """Give a temporary folder its name; until then it is held, so that nobody takes it for a leftover."""
    temporary.rename(target)
    (target / LOCK).unlink()


def hold(handle: int, path: Path) -> bool | None:
    """Lock an open file; None where the file system knows no locks, False where another process has it.

    Also False when `path` no longer is that file.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return _is_at(handle, path)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def remove_leftovers(folder: Path, name: str = "", *, suffix: str = "") -> None:
    """Remove what dead writers left in a folder of the target `name`, or of all targets whose names end with `suffix`.

    What cannot be removed stays. To be called before room on the disk is asked for: a leftover may be what fills it.
    """
    target = re.escape(name) if name else f".+{re.escape(suffix)}"
    pattern = re.compile(rf"\.{target}(\.[0-9a-f]{{8}}\.tmp|\{LOCK})", re.DOTALL)
    with suppress(OSError):  # the folder is not there, or not ours to read: its writer will say so
        for found in filter(pattern.fullmatch, os.listdir(folder)):
            _remove_unless_held(folder / found)


def _remove_unless_held(path: Path) -> None:
    held = path / LOCK if path.is_dir() and not path.is_symlink() else path
    with suppress(OSError):  # gone by now, without a lock file yet, a link, or of another user: not for us to remove
        handle = os.open(held, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if hold(handle, held):
                _remove(path)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    """Delete a file, or a folder with its lock last: killed on the way, it is found again."""
    if not path.is_dir():
        path.unlink()
        return
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
    (path / LOCK).unlink()
    path.rmdir()


@contextmanager
def alone(target: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Let one process at a time make `target`; `waiting` is called once where another one does so already.

    The lock is on `.TARGET.lock`, which is gone afterwards. Where the file system knows no locks nobody waits.
    """
    path = target.parent / f".{target.name}{LOCK}"
    told = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if hold(handle, path) is not False:
            break
        os.close(handle)
        if not told and path.exists():
            waiting()
            told = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
