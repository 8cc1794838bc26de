"""Where a repaired copy may not be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi05.check.fix.destination import check_destination
from pi05.errors import DataError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "sets" / "set"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("out", "found"),
    [
        ("sets/set", "the data set itself"),
        ("sets/../sets/set", "the data set itself"),
        ("link", "the data set itself"),
        ("sets/set/copy", "a folder in it"),
        ("link/copy", "a folder in it"),
        ("sets", "that holds the data set"),
        ("full", "a folder with content, note.txt in it"),
        ("file", "a file"),
        ("nowhere/copy", "no such folder"),
        ("dangling", "a link that leads nowhere"),
    ],
)
def test_places_that_cannot_be(tmp_path: Path, data: Path, out: str, found: str) -> None:
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match=found) as caught:
        check_destination(data, tmp_path / out)
    assert "never repaired in place" in str(caught.value)


@pytest.mark.parametrize("out", ["new", "sets/new", "empty", "sets/set-fixed"])
def test_places_that_can(tmp_path: Path, data: Path, out: str) -> None:
    (tmp_path / "empty").mkdir()
    check_destination(data, tmp_path / out)
