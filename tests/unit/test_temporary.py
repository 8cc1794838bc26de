"""Temporary files and folders: held while they are written, removed when their writer is dead, never before."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pi05.files import replacing, write_atomic
from pi05.temporary import LOCK, alone, remove_leftovers, rename_folder, temporary_file, temporary_folder

WRITES = """
import sys, time
from pathlib import Path
from pi05.temporary import {kind}
with {kind}(Path(sys.argv[1])) as path:
    ({place}).write_text("half")
    print(path, flush=True)
    time.sleep(600)
"""


def writer(kind: str, target: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that writes something and does not end; return it, and its temporary path."""
    program = WRITES.format(kind=kind, place="path" if kind == "temporary_file" else 'path / "data"')
    process = subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.process
@pytest.mark.parametrize("kind", ["temporary_file", "temporary_folder"])
def test_a_living_writers_stays_and_a_killed_ones_goes(kind: str, tmp_path: Path) -> None:
    process, path = writer(kind, tmp_path / "cache.npy")
    with process:
        try:
            remove_leftovers(tmp_path, suffix=".npy")
            write_atomic(tmp_path / "cache.npy", b"another")
            assert path.exists()
            process.send_signal(signal.SIGKILL)
            process.wait()
        finally:
            process.kill()
    assert path.exists()
    write_atomic(tmp_path / "other.npy", b"of another target")
    assert path.exists()
    write_atomic(tmp_path / "cache.npy", b"whole")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cache.npy", "other.npy"]


@contextlib.contextmanager
def interrupted_at(event: int) -> Iterator[list[int]]:
    """Press Ctrl-C at the n-th line that is reached in `temporary.py`; yield a list of those that were."""
    reached: list[int] = []

    def trace(frame: FrameType, kind: str, _: object) -> Any:
        if not frame.f_code.co_filename.endswith("pi05/temporary.py"):
            return None
        if kind == "line":
            reached.append(frame.f_lineno)
            if len(reached) == event:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield reached
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_ctrl_c_at_any_line_leaves_nothing_half_written(kind: str, tmp_path: Path) -> None:
    ended = 0
    for event in itertools.count(1):
        folder = tmp_path / str(event)
        folder.mkdir()
        target = folder / "out"
        try:
            with interrupted_at(event) as reached:
                if kind == "file":
                    write_atomic(target, b"whole")
                else:
                    with temporary_folder(target) as path:
                        (path / "data").write_bytes(b"whole")
                        rename_folder(path, target)
        except KeyboardInterrupt:
            ended += 1
        left = [entry.name for entry in folder.iterdir() if entry != target]
        assert not left, f"Ctrl-C at line {reached[-1]} leaves {left}"
        if target.exists():
            assert (target if kind == "file" else target / "data").read_bytes() == b"whole"
        if len(reached) < event:
            break
    assert ended > 15


def leftover(path: Path) -> Path:
    """Make what a killed process leaves: nobody holds it."""
    path.write_text("half")
    return path


def test_what_nobody_holds_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = leftover(tmp_path / ".a[1].npy.0123abcd.tmp")
    kept = ["a[1].npy", ".a1.npy.0123abcd.tmp", ".a[1].npy.0123abcd", ".a[1].npy.tmp", ".a[1].npy.77-0123abcd.tmp"]
    for name in kept:
        (tmp_path / name).write_text("x")
    (tmp_path / ".a[1].npy.aaaaaaaa.tmp").symlink_to(tmp_path / "a[1].npy")
    (tmp_path / ".a[1].npy.bbbbbbbb.tmp").mkdir()  # without its lock yet
    remove_leftovers(tmp_path, "a[1].npy")
    assert not left.exists()
    assert {entry.name for entry in tmp_path.iterdir()} == {
        *kept,
        ".a[1].npy.aaaaaaaa.tmp",
        ".a[1].npy.bbbbbbbb.tmp",
    }
    remove_leftovers(tmp_path / "nowhere", "a")


def test_of_all_caches_in_a_folder_and_of_nothing_else(tmp_path: Path) -> None:
    for name in (".a.npy.0123abcd.tmp", ".b.npy.lock"):
        leftover(tmp_path / name)
    kept = {".a.0123abcd.tmp", ".lock", ".of_another_program.lock", "a.npy"}
    for name in kept:
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path, suffix=".npy")
    assert {entry.name for entry in tmp_path.iterdir()} == kept


def test_a_file_system_without_locks_keeps_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = leftover(tmp_path / ".a.0123abcd.tmp")

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    write_atomic(tmp_path / "a", b"whole")
    with temporary_folder(tmp_path / "b") as folder:
        rename_folder(folder, tmp_path / "b")
    with alone(tmp_path / "a", lambda: pytest.fail("nobody is waited for")):
        assert left.exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [left.name, "a", "b"]


def test_two_writers_of_one_target_do_not_meet(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as first:
        with replacing(tmp_path / "a") as second:
            assert first != second
            second.write_text("second")
        first.write_text("first")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("a", "first")]


def test_a_leftover_that_is_removed_between_its_making_and_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = fcntl.flock, []

    def late(handle: int, how: int) -> None:
        calls.append(handle)
        if len(calls) == 1:
            for path in tmp_path.iterdir():
                os.unlink(path)
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with temporary_file(tmp_path / "a") as path:
        assert path.exists()
    assert len(calls) == 2


def test_a_folder_is_held_until_it_has_its_name(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "out") as folder:
        (folder / "data").write_text("x")
        assert (folder / LOCK).exists()
        remove_leftovers(tmp_path, "out")
        rename_folder(folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data"]


def test_a_folder_left_with_folders_in_it_goes(tmp_path: Path) -> None:
    left = tmp_path / ".out.01234567.tmp"
    (left / "deep" / "er").mkdir(parents=True)
    (left / "deep" / "file").write_text("x")
    (left / "link").symlink_to(tmp_path)
    (left / LOCK).touch()
    remove_leftovers(tmp_path, "out")
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time_and_the_second_is_told(tmp_path: Path) -> None:
    """Each has an open file of its own, as two processes have."""
    order: list[str] = []
    inside, told = threading.Event(), threading.Event()

    def first() -> None:
        with alone(tmp_path / "a", lambda: order.append("first waits")):
            order.append("first")
            inside.set()
            assert told.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)

    def waits() -> None:
        order.append("second waits")
        told.set()

    with alone(tmp_path / "a", waits):
        order.append("second")
    thread.join()
    assert order == ["first", "second waits", "second"]
    assert list(tmp_path.iterdir()) == []
