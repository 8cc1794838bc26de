"""What a data set's own files say about it: robot, size, rate, licence, and which version of the hub's it is.

Only what is written there; nothing is inferred from names. Reads `meta/info.json`, the front matter of `README.md` (the
card that the hub keeps the licence in), and what a download noted of the commit (`revision.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import yaml

from pi05.files import DEEPEST, read_notes, read_regular
from pi05.revision import read_revision
from pi05.settings.fields import Count, Positive, Within, find_fault

LARGEST_CARD, LONGEST_FRONT_MATTER, LONGEST_LICENSE = 2**24, 2**16, 200
"""Bytes of a card, characters of its YAML block and of a licence; a longer one is taken as telling nothing."""
_NO_NAME = re.compile(r"(?i)null|true|false|yes|no|on|off|[\W\d_]*")
"""Texts that YAML takes for something else, and those without a letter, numbers and dates among them."""
_Pixels = Annotated[int, Within(1, 2**20)]
_SHAPE = Annotated[list[_Pixels], Within(3, 3)]


class DatasetFacts(TypedDict, total=False):
    """What is told of a data set; of a run also what its `dataset.json` may hold."""

    name: str | None
    folder: str | None
    format: str | None
    robot: str | None
    fps: Positive | None
    episodes: Count | None
    frames: Count | None
    tasks: Count | None
    features: list[str] | None
    camera_sizes: dict[str, Annotated[list[_Pixels], Within(2, 2)]] | None
    license: str | None
    license_from: str | None
    revision: str | None


def describe_dataset(root: Path, name: str | None = None) -> dict[str, Any]:
    """Return the facts as plain data, None where the files do not tell. `name` is what the user calls the data set.

    What is of a wrong type is not told either: here it decides nothing, and reading the data set refuses what does.
    """
    info = read_notes(root / "meta" / "info.json")
    license_, where = read_license(root, info)
    features = info.get("features")
    facts = {
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
    return {key: value if find_fault(DatasetFacts, {key: value}) is None else None for key, value in facts.items()}


def camera_sizes(features: object) -> dict[str, list[int]]:
    """Return height and width of each picture among features as LeRobot describes them, in `info.json` or a policy."""
    sizes = {}
    for key, feature in features.items() if isinstance(features, Mapping) else ():
        if not isinstance(feature, Mapping):
            continue
        kind, shape = feature.get("type", feature.get("dtype")), feature.get("shape")
        if kind in ("VISUAL", "image", "video") and isinstance(shape, list) and find_fault(_SHAPE, shape) is None:
            channels_first = shape[0] in (1, 3)
            sizes[str(key)] = list(shape[1:] if channels_first else shape[:2])
    return sizes


def read_license(folder: Path, info: Mapping[str, Any] | None = None) -> tuple[str | None, str | None]:
    """Return a licence and the file that states it, or (None, None). The card goes before `meta/info.json`."""
    card = read_front_matter(folder / "README.md")
    stated = card.get("license_name") or card.get("license") if card.get("license") == "other" else card.get("license")
    if isinstance(stated, list):
        stated = ", ".join(
            entry for entry in stated if isinstance(entry, str) and not _NO_NAME.fullmatch(entry.strip())
        )
    if isinstance(stated, str) and not _NO_NAME.fullmatch(stated.strip()) and len(stated) <= LONGEST_LICENSE:
        return stated.strip(), "README.md"
    value = (info or {}).get("license")
    return (value.strip(), "meta/info.json") if isinstance(value, str) and value.strip() else (None, None)


def read_front_matter(card: Path) -> dict[str, Any]:
    """Return the YAML block at the head of a card, with every value as text; empty where there is none to be read."""
    try:
        text = read_regular(card, LARGEST_CARD).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return {}
    lines = text.split("\n")
    if not lines or lines[0].strip() != "---":
        return {}
    end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    block = "\n".join(lines[1:end])
    if end is None or len(block) > LONGEST_FRONT_MATTER or _brackets(block) > DEEPEST:
        return {}
    try:
        # texts only: YAML's other types raise errors of their own on what they cannot be (the 30th of February)
        values = yaml.load(block, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _brackets(text: str) -> int:
    """Return how many brackets are open at most. The time that PyYAML takes grows with the square of it."""
    deepest = depth = 0
    for sign in re.findall(r"[\[\]{}]", text):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
