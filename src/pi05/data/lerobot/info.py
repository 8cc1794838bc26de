"""`meta/info.json` of a data set: is there one, of which version, at what rate, and with which features?

No camera is left out in silence: depth maps and cameras of an unknown kind are refused with the flag that drops them.
Leaves out the path templates (`templates.py`), and whether its totals are true (`layout.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pi05.data.lerobot.files import dropping, read_meta, wrong_content
from pi05.data.lerobot.layout import is_camera, is_unreadable_camera
from pi05.errors import DataError
from pi05.settings.fields import Positive, Within, find_fault, shown

VERSIONS = ("v2.0", "v2.1", "v3.0")
_SHAPE = list[Annotated[int, Within(1, 2**20)]] | None


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


def read_features(info: dict[str, Any], path: Path, drop_cameras: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the features without the dropped cameras. Raises DataError."""
    features = info.get("features")
    if not isinstance(features, dict) or not all(isinstance(f, dict) and "dtype" in f for f in features.values()):
        raise wrong_content(
            f"the data set description does not tell the features: {path}",
            wanted="features, each with its dtype",
            found=f"features {str(features)[:200]}",
            remedy="complete meta/info.json as LeRobot writes it",
        )
    unreadable_kinds = [name for name, feature in features.items() if is_unreadable_camera(name, feature)]
    cameras = [name for name, feature in features.items() if is_camera(feature) or name in unreadable_kinds]
    unknown = sorted(set(drop_cameras) - set(cameras))
    if unknown:
        raise DataError(
            f"a camera that should be dropped is not in the data set: {path}",
            wanted=f"one of {', '.join(cameras) or '(no cameras)'}",
            found=", ".join(unknown),
            remedy="correct --drop_cameras",
        )
    for name in cameras:
        if name in drop_cameras:
            continue
        if name in unreadable_kinds:
            raise DataError(
                f"camera {name} is stored in a way that is not read: {path}",
                wanted="dtype video or image",
                found=f"dtype {features[name]['dtype']!r}, shape {features[name].get('shape')}",
                remedy=f"convert its pictures, or leave it out: {dropping(name)}",
            )
        if _is_depth(features[name]):
            raise DataError(
                f"camera {name} is a depth map, which π₀.₅ has no use for: {path}",
                wanted="colour cameras",
                found='"is_depth_map": true',
                remedy=f"leave it out with {dropping(name)}",
            )
        fault = find_fault(_SHAPE, features[name].get("shape"), "shape")
        if fault is not None:
            raise wrong_content(
                f"the shape of camera {name} cannot be: {path}",
                wanted=f"{fault.field}: {fault.wanted}",
                found=fault.found,
                remedy="correct it in meta/info.json, for example [480, 640, 3]",
            )
    return {name: feature for name, feature in features.items() if name not in drop_cameras}


def picture_sizes(features: Mapping[str, Any], cameras: Mapping[str, str | None]) -> dict[str, tuple[int, int]]:
    """Return slot → height and width of its camera's pictures, where info.json tells them, in either order."""
    found = {}
    for slot, camera in cameras.items():
        shape = None if camera is None else features[camera].get("shape")
        if isinstance(shape, list) and len(shape) == 3:
            first = shape[0] == 3 and shape[2] != 3
            found[slot] = (shape[1], shape[2]) if first else (shape[0], shape[1])
    return found


def _is_depth(feature: dict[str, Any]) -> bool:
    """Return whether the details of a camera call it a depth map; details that are no dictionary say nothing."""
    details = [feature.get("info"), feature.get("video_info")]
    keys = ("is_depth_map", "video.is_depth_map")
    return any(part.get(key) for part in details if isinstance(part, dict) for key in keys)
