"""Exported folders of the packaged network, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from exports import LAYOUTS, silent

from pi05.checkpoint.locate import locate
from pi05.export.export import export_policy
from pi05.train.config import TINY_BASE


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one exported folder for each layout; tests must not change them."""
    root = tmp_path_factory.mktemp("exported")
    return {to: export_policy(locate(TINY_BASE), root / to, to=to, tell=silent).folder for to in LAYOUTS}


@pytest.fixture
def exported_copy(exported: dict[str, Path], tmp_path: Path) -> Path:
    """Return a LeRobot folder that a test may spoil."""
    return Path(shutil.copytree(exported["lerobot"], tmp_path / "copy"))
