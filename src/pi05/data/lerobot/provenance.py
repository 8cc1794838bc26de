"""What a data set's own files say about it: robot, size, rate, licence, and which version of the hub's it is.

Only what is written there; nothing is inferred from names. Reads `meta/info.json`, the front matter of `README.md` (the
card that the hub keeps the licence in), and what a download noted of the commit (`revision.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pi05.files import read_notes
from pi05.revision import read_revision


def describe_dataset(root: Path, name: str | None = None) -> dict[str, Any]:
    """Return the facts as plain data, None where the files do not tell. `name` is what the user calls the data set."""
    info = read_notes(root / "meta" / "info.json")
    license_, where = read_license(root, info)
    features = info.get("features")
    return {
        "name": name,
        "folder": root.name,
        "format": info.get("codebase_version"),
        "robot": info.get("robot_type"),
        "fps": info.get("fps"),
        "episodes": info.get("total_episodes"),
        "frames": info.get("total_frames"),
        "tasks": info.get("total_tasks"),
        "features": sorted(features) if isinstance(features, Mapping) else None,
        "camera_sizes": camera_sizes(features),
        "license": license_,
        "license_from": where,
        "revision": read_revision(root, [root / "meta" / "info.json"]),
    }


def camera_sizes(features: object) -> dict[str, list[int]]:
    """Return height and width of each picture among features as LeRobot describes them, in `info.json` or a policy."""
    sizes = {}
    for key, feature in (features if isinstance(features, Mapping) else {}).items():
        kind, shape = (feature.get("type", feature.get("dtype")), feature.get("shape")) if feature else (None, None)
        if kind in ("VISUAL", "image", "video") and isinstance(shape, list) and len(shape) == 3:
            channels_first = shape[0] in (1, 3)
            sizes[str(key)] = [int(side) for side in (shape[1:] if channels_first else shape[:2])]
    return sizes


def read_license(folder: Path, info: Mapping[str, Any] | None = None) -> tuple[str | None, str | None]:
    """Return a licence and the file that states it, or (None, None). The card goes before `meta/info.json`."""
    card = read_front_matter(folder / "README.md")
    stated = card.get("license_name") or card.get("license") if card.get("license") == "other" else card.get("license")
    if isinstance(stated, list):
        stated = ", ".join(str(entry) for entry in stated)
    if isinstance(stated, str) and stated.strip():
        return stated.strip(), "README.md"
    value = (info or {}).get("license")
    return (value.strip(), "meta/info.json") if isinstance(value, str) and value.strip() else (None, None)


def read_front_matter(card: Path) -> dict[str, Any]:
    """Return the YAML block at the head of a card; empty when there is none or it cannot be read."""
    try:
        text = card.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return {}
    lines = text.split("\n")
    if not lines or lines[0].strip() != "---":
        return {}
    end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    try:
        values = yaml.safe_load("\n".join(lines[1:end])) if end is not None else None
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}
