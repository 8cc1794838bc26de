"""What starting LIBERO leaves behind: nothing in the home folder, in site-packages or for other users of /tmp."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from libero_here import needs_libero

PROGRAM = "from pi05.sim.libero.setup import start_libero; start_libero()"


def files_of(*packages: str) -> dict[Path, int]:
    """Return the time of each file of some packages, without what Python compiles."""
    import importlib.util

    folders = [
        Path(place)
        for package in packages
        if (found := importlib.util.find_spec(package)) is not None
        for place in found.submodule_search_locations or ()
    ]
    assert folders
    return {
        file: file.stat().st_mtime_ns
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


@needs_libero
@pytest.mark.process
def test_nothing_is_written_into_home_or_packages_and_nothing_is_asked(tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())  # compiled code of earlier tests
    log = Path("/tmp/robosuite.log")
    before, logged = files_of("libero", "robosuite"), log.stat().st_mtime_ns if log.exists() else None
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "HOME": str(home), "TMPDIR": str(scratch), "XDG_CACHE_HOME": cache},
        stdin=subprocess.DEVNULL,  # a question would end it
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert list(home.rglob("*")) == []
    assert list(scratch.iterdir()) == []  # the file of settings has gone with the process
    assert files_of("libero", "robosuite") == before
    assert (log.stat().st_mtime_ns if log.exists() else None) == logged
