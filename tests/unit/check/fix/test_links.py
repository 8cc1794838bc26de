"""Which files of the copy are the source's own, and which are copies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from fakes import CAMERAS, write_dataset

import pi05.check.fix.links as module
from pi05.check.fix.links import copy_file
from pi05.check.fix.repair import repair

SCENE = f"videos/{CAMERAS[0]}/chunk-000"


def test_finished_videos_are_linked_and_the_one_that_a_recorder_appends_to_is_copied(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v3.0", episodes_per_file=1)
    repair(fake.root, tmp_path / "out")
    same = [
        (fake.root / SCENE / name).samefile(tmp_path / "out" / SCENE / name)
        for name in sorted(os.listdir(fake.root / SCENE))
    ]
    assert same == [True, True, False]
    last = tmp_path / "out" / SCENE / "file-002.mp4"
    before = (fake.root / SCENE / "file-002.mp4").read_bytes()
    assert last.read_bytes() == before
    last.write_bytes(b"a recorder went on")
    assert (fake.root / SCENE / "file-002.mp4").read_bytes() == before


def test_nothing_else_shares_its_bytes(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v2.1")
    (fake.root / "README.md").write_text("a card")
    repair(fake.root, tmp_path / "out")
    shared = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_nlink > 1}
    assert shared == {".mp4"}


def test_links_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v2.1")
    for path in list(fake.root.rglob("*.mp4")):
        blob = tmp_path / "blobs" / f"{path.parent.name}-{path.stem}"
        blob.parent.mkdir(exist_ok=True)
        path.rename(blob)
        path.symlink_to(blob)
    repair(fake.root, tmp_path / "out")
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("reason", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_no_link_can_be_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    fake = write_dataset(tmp_path / "set", "v2.1", [5, 4])

    def refuse(source: str, target: Path) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(module.os, "link", refuse)
    account = repair(fake.root, tmp_path / "out")
    assert any("0 videos are hard links to the source's, 4 are copies" in entry.text for entry in account.done)
    assert not any(path.stat().st_nlink > 1 for path in (tmp_path / "out").rglob("*.mp4"))


def test_a_copy_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    copy_file(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == b"1"
    with pytest.raises(FileExistsError):
        copy_file(tmp_path / "one", tmp_path / "two")
