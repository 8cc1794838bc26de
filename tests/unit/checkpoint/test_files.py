"""Files written whole or not at all, and the room for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from full_disk import largest_file

from pi05.checkpoint import files
from pi05.errors import TrainingError


def test_a_disk_without_room_is_noticed_before_writing(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    files.require_space(tmp_path, 1_000, "a checkpoint")
    with pytest.raises(TrainingError, match="no room on the disk for a checkpoint"):
        files.require_space(tmp_path, 2 * free, "a checkpoint")


def test_the_room_that_is_asked_for_is_more_than_is_found(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with pytest.raises(TrainingError) as refusal:  # fits by itself, and leaves too little over
        files.require_space(tmp_path, free - 2**20, "a checkpoint")
    wanted, found = (float(str(text).split(" MB")[0]) for text in (refusal.value.wanted, refusal.value.found))
    assert wanted > found


def test_write_atomic_keeps_the_old_content_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    files.write_atomic(path, b"old")
    with largest_file(10), pytest.raises(OSError, match="File too large"):
        files.write_atomic(path, b"new content that does not fit")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "x.json", {"loss": float("nan")})
