"""A hub on localhost that is read from, and a home of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub
from fetching import FILES, MODEL, Line, use_home

from pi05.sources.client import endpoints


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return use_home(monkeypatch, tmp_path / "home")


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Serve a hub with a model."""
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.publish(MODEL, FILES)
        yield server


@pytest.fixture
def line(hub: FakeHub, tmp_path: Path) -> Line:
    return Line(folder=tmp_path / "fetched", addresses=endpoints())
