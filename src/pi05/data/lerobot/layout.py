"""What the metadata of a data set says: its episodes, and in which files each of them lies.

Checked here against itself, against the totals of info.json, and against which files exist; what the files hold is
checked in `index_columns.py` (numbers) and `clips.py` (videos). `meta.py` reads it from disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi05.data.lerobot.files import DOWNLOAD_AGAIN, defect, dropping, excluding, wrong_content
from pi05.errors import DataError
from pi05.types import IMAGE_PREFIX

IsUsed = Callable[[int], bool]
"""Whether an episode will be read, by its number."""


def all_of_them(episode: int) -> bool:
    """Use every episode."""
    return True


@dataclass(frozen=True)
class Clip:
    """One episode's stretch of one camera's video file."""

    path: Path
    start_seconds: float | None
    """When the episode starts in the file; None: the file holds this episode only."""


@dataclass(frozen=True)
class EpisodeFiles:
    """Where one episode lies."""

    index: int
    start: int
    """Global number of its first frame."""
    length: int
    tasks: tuple[str, ...]
    """What the metadata says its tasks are."""
    table: Path
    first_row: int
    """Row of its first frame in the parquet file."""
    clips: dict[str, Clip]
    """By video camera."""


@dataclass
class DatasetLayout:
    """All that `meta/` says, checked against itself and against the list of files."""

    root: Path
    version: str
    fps: float
    robot_type: str | None
    features: dict[str, dict[str, Any]]
    """By name: dtype, shape, names. Dropped cameras are left out."""
    tasks: dict[int, str]
    episodes: list[EpisodeFiles]
    meta_files: list[Path]
    notes: list[str] = field(default_factory=list)
    """Oddities that change nothing in what is read, for the console."""

    @property
    def tables(self) -> dict[Path, list[EpisodeFiles]]:
        """Parquet files with their episodes, in order."""
        tables: dict[Path, list[EpisodeFiles]] = {}
        for episode in self.episodes:
            tables.setdefault(episode.table, []).append(episode)
        return tables


def is_camera(feature: Mapping[str, Any]) -> bool:
    """Return whether a feature of info.json is a camera."""
    return feature.get("dtype") in ("video", "image")


def is_unreadable_camera(name: str, feature: dict[str, Any]) -> bool:
    """Return whether a feature is a camera by its name or its shape, and of a dtype that is not read."""
    if is_camera(feature):
        return False
    shape = feature.get("shape")
    coloured = isinstance(shape, list | tuple) and len(shape) == 3 and 3 in (shape[0], shape[2])
    if str(feature.get("dtype")).startswith("float"):  # fields of points or normals have three dimensions, too
        coloured = coloured and re.search("image|cam|rgb|pixel|video", name.lower()) is not None
    return name.startswith(IMAGE_PREFIX) or coloured


def is_video(feature: Mapping[str, Any]) -> bool:
    """Return whether a feature of info.json is a camera stored as video."""
    return feature.get("dtype") == "video"


def ghost_camera(name: str, found: str, path: Path) -> DataError:
    """Return the error for a camera that info.json names and that has no videos at all."""
    return DataError(
        f"camera {name} is named in meta/info.json, but has no videos: {path}",
        wanted=f"videos of {name} for every episode, from episode 0 on",
        found=found,
        remedy=f"leave the camera out with {dropping(name)}, or, if it should be there, {DOWNLOAD_AGAIN}",
        topic="camera",
        cameras=[name],
    )


def check_totals(layout: DatasetLayout, info: dict[str, Any], info_path: Path) -> None:
    """Compare the episode list with itself and with the totals of info.json."""
    listing = layout.meta_files[-1]
    expected_start = 0
    for position, episode in enumerate(layout.episodes):
        problem = None
        if episode.index != position:
            problem = (f"episode {position}", f"episode {episode.index} in its place")
        elif episode.length < 1:
            problem = ("at least one frame", f"length {episode.length}")
        elif episode.start != expected_start:
            problem = (f"first frame {expected_start}, after the episodes before", f"first frame {episode.start}")
        if problem is not None:
            raise DataError(
                f"the episode list is wrong at episode {position}: {listing}",
                wanted=problem[0],
                found=problem[1],
                remedy=f"episodes must be numbered 0, 1, 2, … without gaps; {DOWNLOAD_AGAIN}, or write it anew",
                topic="episodes",
            )
        expected_start += episode.length
    counted = {"total_episodes": len(layout.episodes), "total_frames": expected_start}
    for key, value in counted.items():
        if (key in info and info[key] != value) or not layout.episodes:
            raise DataError(
                f"{info_path} disagrees with the episode list {listing} about {key}",
                wanted=f"{info.get(key)} (info.json)",
                found=f"{value} in the list, whose last episode is {len(layout.episodes) - 1}",
                remedy=f"the set is half-downloaded or half-written; {DOWNLOAD_AGAIN}",
                topic="episodes",
            )
    if not layout.tasks:
        raise wrong_content(
            f"the task list is empty: {layout.meta_files[1]}",
            wanted="a text for every task number of the frames",
            found="no task",
            remedy="write the tasks into it",
        )


def check_presence(layout: DatasetLayout, is_used: IsUsed = all_of_them) -> None:
    """Raise the error for the first file that is missing, empty or a git-lfs pointer, with the count of such files."""
    used = [episode for episode in layout.episodes if is_used(episode.index)]
    roles: list[tuple[str, list[tuple[int, Path]]]] = [
        ("data file", [(episode.index, episode.table) for episode in used])
    ]
    for camera in [name for name, feature in layout.features.items() if is_video(feature)]:
        paths = [(episode.index, episode.clips[camera].path) for episode in used]
        roles.append((f"video of camera {camera}", paths))
    for what, paths in roles:
        unique = {path: episode for episode, path in reversed(paths)}
        bad = {path: found for path in unique if (found := defect(path)) is not None}
        if not bad:
            continue
        path = min(bad, key=lambda path: unique[path])
        camera = what.removeprefix("video of camera ")
        if what != "data file" and len(bad) == len(unique) and set(bad.values()) == {"no such file"}:
            raise ghost_camera(camera, f"none of {len(unique)} video files", path)
        affected = sorted(episode for episode, path in paths if path in bad)
        without = [f"leave the episodes out with {excluding(*affected)}"] if len(affected) < len(paths) else []
        without += [] if what == "data file" else [f"leave the camera out with {dropping(camera)}"]
        raise DataError(
            f"the {what} of episode {unique[path]} is not there: {path}",
            wanted=f"{len(unique)} such files for {len(used)} episodes",
            found=f"{bad[path]}; {len(bad)} of {len(unique)} are missing or empty",
            remedy="; or ".join([DOWNLOAD_AGAIN, *without]),
            topic="files",
            episodes=affected if len(affected) < len(paths) else [],
            cameras=[camera] if what != "data file" and len(affected) == len(paths) else [],
        )


def check_clips(layout: DatasetLayout) -> None:
    """Raise DataError where two episodes claim the same stretch of a video file."""
    ends: dict[tuple[str, Path], tuple[float, int]] = {}
    for episode in layout.episodes:
        for camera, clip in episode.clips.items():
            start = clip.start_seconds or 0.0
            end, before = ends.get((camera, clip.path), (0.0, -1))
            if start < end - 0.5 / layout.fps:
                raise DataError(
                    f"episodes {before} and {episode.index} overlap in a video of camera {camera}: {clip.path}",
                    wanted=f"episode {episode.index} to begin at {end:.4f} s or later",
                    found=f"it begins at {start:.4f} s",
                    remedy=f"the list of episodes is wrong; {DOWNLOAD_AGAIN}, or write it anew",
                    topic="episodes",
                )
            ends[camera, clip.path] = (start + episode.length / layout.fps, episode.index)


def last_in_file(episodes: list[EpisodeFiles]) -> set[tuple[str, int]]:
    """Return (camera, episode) for the last episode of each video file."""
    last = {(camera, clip.path): episode.index for episode in episodes for camera, clip in episode.clips.items()}
    return {(camera, episode) for (camera, _), episode in last.items()}


def unused_splits(splits: object, episodes: int) -> str | None:
    """Return what to say of the splits in info.json; None where they only say that all episodes are for training."""
    if not isinstance(splits, dict) or not splits or list(splits.values()) == [f"0:{episodes}"]:
        return None
    told = ", ".join(f"{name} {part}" for name, part in splits.items())
    return (
        f"the splits in meta/info.json ({told}) are not used: --dataset.episodes chooses episodes, and "
        "--dataset.eval_split how many of them are held out"
    )
