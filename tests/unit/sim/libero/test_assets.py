"""Assets found in each of the three places, and told from half of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from libero_files import write_sparse_assets
from libero_here import needs_libero

from pi05.errors import EvaluationError
from pi05.sim.libero.assets import FOLDER, changed_files, find_assets, lacking_files, manifest


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Return a folder with files of the right names and sizes."""
    return write_sparse_assets(tmp_path / "libero-assets")


def test_the_manifest_is_the_original_repositorys() -> None:
    files = manifest()
    assert len(files) == 585
    assert sum(size for size, _ in files.values()) == 422313213
    assert all(len(digest) == 40 for _, digest in files.values())


def test_a_named_folder_is_taken_and_checked(sparse: Path) -> None:
    assert find_assets({FOLDER: str(sparse)}) == sparse
    pointer = sparse / "wall.xml"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    (sparse / "wall_frames.stl").unlink()
    assert sorted(lacking_files(sparse)) == ["wall.xml", "wall_frames.stl"]
    with pytest.raises(EvaluationError, match=r"(?s)incomplete.*2 of them missing.*wall"):
        find_assets({FOLDER: str(sparse)})


def test_a_named_folder_without_assets_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"(?s)not on this machine.*PI05_LIBERO_ASSETS\): none of the files"):
        find_assets({FOLDER: str(tmp_path)})


def test_content_is_told_from_size(sparse: Path) -> None:
    assert lacking_files(sparse) == []
    assert len(changed_files(sparse)) == 585


def test_what_fetch_brings_is_found(sparse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sparse.parent)
    monkeypatch.setattr("pi05.sim.libero.assets._PACKAGE", "no_such_wheels")
    assert find_assets({}) == sparse
    shutil.rmtree(sparse / "scenes")
    with pytest.raises(EvaluationError, match="incomplete"):
        find_assets({})
    shutil.rmtree(sparse)
    with pytest.raises(EvaluationError, match=r"(?s)wheels.*pi05 fetch libero-assets"):
        find_assets({})


@needs_libero
def test_the_wheels_hold_the_original_files() -> None:
    assert changed_files(find_assets({})) == []
