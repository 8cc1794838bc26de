"""The commit on the hub, read from what the hub's client leaves beside the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi05.revision import read_revision

COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "f" * 40


def note(root: Path, name: str, first: str = COMMIT) -> Path:
    path = root / ".cache" / "huggingface" / "download" / f"{name}.metadata"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first}\nsome-etag\n1795365435.2\n")
    return root / name


def test_a_download_into_a_folder(tmp_path):
    assert read_revision(tmp_path, [note(tmp_path, "model.safetensors")]) == COMMIT


def test_a_folder_inside_a_download(tmp_path):
    files = [note(tmp_path, f"pi05_base/params/d/{name}") for name in "ab"]
    assert read_revision(tmp_path / "pi05_base", files) == COMMIT


@pytest.mark.parametrize("inner", ["model.safetensors", "params/d/x"])
def test_the_cache_of_the_client(tmp_path, inner):
    folder = tmp_path / "models--lerobot--pi05_base" / "snapshots" / COMMIT
    assert read_revision(folder, [folder / inner]) == COMMIT
    assert read_revision(folder / inner, [folder / inner]) == COMMIT


def test_files_of_two_revisions_have_none(tmp_path):
    files = [note(tmp_path, "a.safetensors"), note(tmp_path, "b.safetensors", OTHER)]
    assert read_revision(tmp_path, files) is None
    assert read_revision(tmp_path, [files[0], tmp_path / "own.safetensors"]) is None


@pytest.mark.parametrize("first", ["", "main", "<html>"])
def test_a_note_that_is_no_commit(tmp_path, first):
    assert read_revision(tmp_path, [note(tmp_path, "model.safetensors", first)]) is None


def test_no_download(tmp_path):
    assert read_revision(tmp_path, [tmp_path / "model.safetensors"]) is None
    assert read_revision(tmp_path / "snapshots" / "yesterday", []) is None
