"""What tests of exports share."""

from __future__ import annotations

from pathlib import Path

LAYOUTS = ("lerobot", "openpi", "pi05")


def silent(line: str) -> None:
    """Swallow a line."""


def everything(folder: Path) -> set[str]:
    """Return the files of a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
