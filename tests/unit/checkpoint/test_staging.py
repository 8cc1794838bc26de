"""A staged folder is there whole, or nothing is."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from full_disk import largest_file

from pi05.checkpoint.staging import staged_folder
from pi05.errors import CheckpointError


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_finished_folder_gets_its_name(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "new" / "out", 10) as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "new" / "out").exists()
    assert everything(tmp_path) == ["new", "new/out", "new/out/a"]


@pytest.mark.parametrize("failure", [ValueError("x"), KeyboardInterrupt(), OSError(errno.EACCES, "no")])
def test_after_a_failure_nothing_is_left(tmp_path: Path, failure: BaseException) -> None:
    def write() -> None:
        with staged_folder(tmp_path / "new" / "out", 10) as folder:
            (folder / "a").write_text("a")
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert everything(tmp_path) == []


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match="exists already"), staged_folder(tmp_path / "out", 10):
        pytest.fail("the block must not run")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="exists already"), staged_folder(tmp_path / "link", 10):
        pytest.fail("the block must not run")
    assert everything(tmp_path) == ["link", "out"]


def test_what_appears_meanwhile_is_not_touched(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="exists already"), staged_folder(tmp_path / "out", 10):
        (tmp_path / "out").write_text("somebody's")
    assert everything(tmp_path) == ["out"]


def test_a_disk_without_room_is_told_before(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(CheckpointError, match="no room on the disk for out"), staged_folder(tmp_path / "out", 2 * free):
        pytest.fail("the block must not run")
    assert everything(tmp_path) == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    with (
        largest_file(1000),
        pytest.raises(CheckpointError, match="nothing of it is left"),
        staged_folder(tmp_path / "out", 10) as folder,
    ):
        (folder / "a").write_bytes(bytes(2000))
    assert everything(tmp_path) == []
