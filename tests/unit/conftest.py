"""Exported folders of the packaged network, made once; and who starts a process without saying so fails."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from exports import LAYOUTS, silent

from pi05.checkpoint.locate import locate
from pi05.export.export import export_policy
from pi05.train.config import TINY_BASE

STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}
"""Names in Python's table of audit events."""
_started: list[str] = []
sys.addaudithook(lambda event, _: _started.append(event) if event in STARTS else None)


@pytest.fixture(autouse=True)
def _unmarked_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a process was started by a test without a marker that `make quick` goes by."""
    before = len(_started)
    yield
    if len(_started) > before and not any(map(request.node.get_closest_marker, ("process", "slow"))):
        pytest.fail(f"{_started[before:]}: mark the test with pytest.mark.process")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one exported folder for each layout; tests must not change them."""
    root = tmp_path_factory.mktemp("exported")
    return {to: export_policy(locate(TINY_BASE), root / to, to=to, say=silent).folder for to in LAYOUTS}


@pytest.fixture
def exported_copy(exported: dict[str, Path], tmp_path: Path) -> Path:
    """Return a LeRobot folder that a test may spoil."""
    return Path(shutil.copytree(exported["lerobot"], tmp_path / "copy"))
