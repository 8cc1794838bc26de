"""A folder with the names and sizes of LIBERO's assets that takes no room on the disk."""

from __future__ import annotations

from pathlib import Path

from pi05.sim.libero.assets import manifest


def write_sparse_assets(folder: Path) -> Path:
    """Write all files as holes, and return the folder."""
    for name, (size, _) in manifest().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
    return folder
