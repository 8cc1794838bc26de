"""A moved folder finds its tokenizer again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exports import silent

from pi05.data.tokenizer import Tokenizer
from pi05.errors import CheckpointError
from pi05.export.relocate import relocate
from pi05.export.verify import verify


def test_a_moved_folder_is_relocated_and_stays_verified(exported_copy: Path, tmp_path: Path) -> None:
    moved = exported_copy.rename(tmp_path / "moved")
    (line,) = relocate(moved)
    assert line.endswith(f"→ {moved / 'tokenizer'}")
    assert relocate(moved) == []
    verify(moved, say=silent)
    assert Tokenizer.load(json.loads((moved / "policy_preprocessor.json").read_text())["steps"][5]["config"][
        "tokenizer_name"
    ])  # fmt: skip


@pytest.mark.parametrize("path", ["openpi", "nowhere"])
def test_only_lerobots_folders_have_paths(exported: dict[str, Path], path: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no paths to rewrite"):
        relocate(exported.get(path, tmp_path / path))
