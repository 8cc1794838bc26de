"""Small data sets that the tests of the reader may break."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import FakeDataset, write_dataset


@pytest.fixture
def fake(tmp_path: Path) -> FakeDataset:
    """A v2.1 set with video: 3 episodes, a file each."""
    return write_dataset(tmp_path / "set", "v2.1")


@pytest.fixture
def fake_v3(tmp_path: Path) -> FakeDataset:
    """A v3.0 set with video: episodes 0 and 1 in one file, 2 in another."""
    return write_dataset(tmp_path / "set", "v3.0")
