"""`meta/info.json` of a data set: is there one, of which version, at what rate?

Leaves out its features (`features.py`), its path templates (`templates.py`), and whether its totals are true
(`layout.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pi05.data.lerobot.files import read_meta, wrong_content
from pi05.errors import DataError
from pi05.settings.fields import Positive, find_fault, shown

VERSIONS = ("v2.0", "v2.1", "v3.0")


def read_info(root: Path) -> tuple[dict[str, Any], Path]:
    """Return info.json and its path. Raises DataError unless version and frame rate are ones that can be read."""
    if not root.is_dir():
        raise DataError(
            f"there is no data set at {root}",
            wanted="a folder with meta/info.json in it",
            found="a file" if root.exists() else "no such folder",
            remedy="give the folder that holds meta/, data/ and videos/ (--dataset.root)",
        )
    path = root / "meta" / "info.json"
    if not path.exists():
        _require_no_folder_of_sets(root)
    info = read_meta(path, "data set description (meta/info.json)")
    version = info.get("codebase_version")
    if version not in VERSIONS:
        raise DataError(
            f"the data set has an unknown format version: {path}",
            wanted="codebase_version " + ", ".join(VERSIONS),
            found=f"codebase_version {'None' if version is None else shown(version)}",
            remedy="convert it with LeRobot's own converters to v2.1 or v3.0",
        )
    if find_fault(Positive, info.get("fps")) is not None:
        raise wrong_content(
            f"the frame rate of the data set is no positive number: {path}",
            wanted="fps as a number above 0, for example 30",
            found=f"fps {shown(info.get('fps'))}",
            remedy="write the rate of the recording as a number into meta/info.json",
        )
    return info, path


def _require_no_folder_of_sets(root: Path) -> None:
    """Raise DataError where `root` has no meta/info.json, and folders in it do."""
    inside = sorted({path.parents[1] for depth in ("*", "*/*") for path in root.glob(f"{depth}/meta/info.json")})
    if inside:
        raise DataError(
            f"{root} is a folder of data sets, not a data set",
            wanted="a folder with meta/info.json in it",
            found=f"{len(inside)} folders that have one: {', '.join(map(str, inside[:8]))}",
            remedy=f"give one of them, for example --dataset.root={inside[0]}",
        )
