"""One process writes a run: the lock on its folder, which ends with its owner however that ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pi05.checkpoint.run_lock import RunLock
from pi05.errors import ConfigError

HOLD = """
import sys, time
from pathlib import Path
from pi05.checkpoint.run_lock import RunLock
with RunLock(Path(sys.argv[1])) as lock:
    lock.take()
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.mark.process
def test_another_process_is_refused_until_the_owner_ends(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    try:
        assert owner.stdout.readline() == "locked\n"
        with RunLock(tmp_path) as lock, pytest.raises(ConfigError, match="another process is writing this run") as no:
            lock.take()
        assert f"process {owner.pid} on " in str(no.value.found)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdout.close()
    with RunLock(tmp_path) as lock:
        lock.take()


def test_the_lock_ends_with_its_block_and_is_taken_once(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        lock.take()
        lock.take()
        with RunLock(tmp_path) as other, pytest.raises(ConfigError):
            other.take()
    with RunLock(tmp_path) as lock:
        lock.take()


def test_the_other_processes_of_a_run_need_no_lock(tmp_path: Path) -> None:
    with RunLock(tmp_path) as first, RunLock(tmp_path, held=False) as second:
        first.take()
        second.take()


def test_nothing_is_left_where_nothing_was_taken(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
