"""The list of episodes of a v3.0 data set, `meta/episodes/`: its rows, whole numbers made whole again.

Leaves out what the rows mean (`meta.py`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pi05.data.lerobot.files import (
    DOWNLOAD_AGAIN,
    dropping,
    excluding,
    open_parquet,
    read_parquet,
    require_whole,
    wrong_content,
)
from pi05.data.lerobot.layout import DatasetLayout, IsUsed, ghost_camera, is_video
from pi05.errors import DataError
from pi05.settings.fields import shown


def read_episode_table(layout: DatasetLayout, is_used: IsUsed) -> list[dict[str, Any]]:
    """Return the rows of all its files, in the order of the episodes; the files become part of `layout.meta_files`.

    Raises DataError for a column that is missing, a number that is none, and a used episode without a video.
    """
    folder = layout.root / "meta" / "episodes"
    files = sorted(folder.glob("chunk-*/file-*.parquet"))
    if not files:
        raise DataError(
            f"the list of episodes is not there: {folder}",
            wanted="chunk-000/file-000.parquet and so on",
            found="no such file",
            remedy=DOWNLOAD_AGAIN,
        )
    wanted = ["episode_index", "length", "dataset_from_index", "data/chunk_index", "data/file_index"]
    for name, feature in layout.features.items():
        if is_video(feature):
            wanted += [f"videos/{name}/{key}" for key in ("chunk_index", "file_index", "from_timestamp")]
    rows: list[dict[str, Any]] = []
    for path in files:
        with open_parquet(path, "episode list") as file:
            columns = list(file.schema_arrow.names)
        _require_columns(path, wanted, columns)
        table = read_parquet(path, "episode list", [name for name in (*wanted, "tasks") if name in columns])
        rows += table.to_pylist()
        for place, row in enumerate(rows[len(rows) - table.num_rows :], start=1):
            _check_row(row, path, place, wanted, is_used)
    layout.meta_files += files
    return sorted(rows, key=lambda row: int(row["episode_index"]))


def _check_row(row: dict[str, Any], path: Path, place: int, wanted: list[str], is_used: IsUsed) -> None:
    """Make whole numbers of what pandas made floats of. Raises DataError for what is none, and for empty cells."""
    for name in wanted:
        clip = name.startswith("videos/")
        if row[name] is None and clip:
            if is_used(row["episode_index"]):
                raise _no_clip(name.split("/")[1], row["episode_index"], path)
        elif not name.endswith("from_timestamp"):
            row[name] = require_whole(row, name, path, f"row {place}")
        elif not isinstance(row[name], float | int) or not math.isfinite(row[name]):
            raise wrong_content(
                f"{name} is no time in row {place}: {path}",
                wanted="a time in seconds",
                found=shown(row[name]),
                remedy=f"correct it in {path.name}",
            )


def _no_clip(camera: str, episode: int, path: Path) -> DataError:
    return wrong_content(
        f"camera {camera} has no video in episode {episode}: {path}",
        wanted=f"videos of {camera} for every episode that is trained on",
        found="empty cells in the list of episodes",
        remedy=f"leave the camera out with {dropping(camera)}, or the episode with {excluding(episode)}",
    )


def _require_columns(path: Path, wanted: list[str], columns: list[str]) -> None:
    missing = [name for name in wanted if name not in columns]
    ghosts = sorted({name.split("/")[1] for name in missing if name.startswith("videos/")})
    if ghosts:
        raise ghost_camera(ghosts[0], f"no columns videos/{ghosts[0]}/… in {path}", path)
    if missing:
        raise wrong_content(
            f"the episode list has no column {', '.join(missing)}: {path}",
            wanted=", ".join(wanted),
            found=", ".join(name for name in columns if not name.startswith("stats/")),
            remedy="write the list of episodes anew as LeRobot does",
        )
