"""Bring the files that do not change into the copy: videos and pictures as hard links, everything else copied.

A hard link is a second name of the same bytes: it takes no room and no time, but whoever writes into the file later
changes both sets. So only what nobody writes into is linked: pictures, and videos that are finished. The last video of
each camera of a v3.0 set is copied, because a recorder that goes on in the copy appends to it; so is everything that
people edit. Nothing in pi05 writes into a file of a data set. Where links cannot be (another disk, a file of another
user) files are copied, without taking room where the file system knows how (FICLONE).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

from pi05.check.fix.plan import Kept, Plan
from pi05.data.lerobot import format_v3
from pi05.data.lerobot.pictures import SUFFIXES

V2_VIDEO = "videos/chunk-{chunk:03d}/{camera}/episode_{number:06d}.mp4"
FICLONE = 0x40049409
"""Linux's request for a copy that shares blocks until one of the two is written to."""
NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
"""Ways of a system to say that this file cannot be linked here."""
OWN = ("info.json", "stats.json", "tasks.jsonl", "tasks.parquet", "episodes.jsonl", "episodes_stats.jsonl")
"""Files of `meta/` that are written anew."""


def clip_places(plan: Plan, kept: Kept, files: dict[str, dict[Path, int]]) -> dict[str, tuple[int, float]]:
    """Return, for each camera, the number of a v3.0 episode's video file and when it begins there (seconds).

    `files` are those of `video_files`.
    """
    return {
        camera: (files[camera][clip.path], (clip.start_seconds or 0.0) + kept.cut[0] / plan.source.layout.fps)
        for camera, clip in kept.files.clips.items()
    }


def video_files(plan: Plan) -> dict[str, dict[Path, int]]:
    """Return the video files of a v3.0 set that the copy needs, by camera, with their new numbers."""
    return {
        camera: {
            path: number
            for number, path in enumerate(dict.fromkeys(kept.files.clips[camera].path for kept in plan.kept))
        }
        for camera in plan.source.cameras
    }


def link_videos(plan: Plan, folder: Path) -> tuple[int, int]:
    """Bring the videos into the copy. Returns how many files were linked, and how many copied."""
    wanted: list[tuple[Path, str, bool]] = []
    if plan.source.version == "v3.0":
        for camera, files in video_files(plan).items():
            last = len(files) - 1
            wanted += [(path, format_v3.video_path(camera, n), n == last) for path, n in files.items()]
    else:
        size = plan.source.info.get("chunks_size", 1000)
        for kept in plan.kept:
            for camera, clip in kept.files.clips.items():
                place = {"chunk": kept.number // size, "camera": camera, "number": kept.number}
                wanted.append((clip.path, V2_VIDEO.format(**place), False))
    linked = 0
    for path, name, must_copy in wanted:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if must_copy or not _link(path, target):
            copy_file(path, target)
        else:
            linked += 1
    return linked, len(wanted) - linked


def bring_others(plan: Plan, folder: Path) -> list[str]:
    """Bring pictures and files outside the format into the copy. Returns the names of those that were left out.

    Tables beside the format may speak of episodes by number: they come along only where these are still the same.
    """
    left = []
    for path in _others(plan.source.root):
        name = path.relative_to(plan.source.root)
        target = folder / name
        if path.suffix in (".parquet", ".jsonl") and not plan.same_frames:
            left.append(str(name))
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() not in SUFFIXES or len(name.parts) == 1 or not _link(path, target):
            copy_file(path, target)
    return left


def _others(root: Path) -> list[Path]:
    """Return the files that are neither the format's own nor hidden."""
    found = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        hidden = any(part.startswith(".") for part in name.parts)
        tables = name.parts[0] in ("data", "videos") and path.suffix in (".parquet", ".mp4")
        lists = name.parts[0] == "meta" and (name.parts[1:2] == ("episodes",) or name.name in OWN)
        if path.is_file() and not (hidden or tables or lists):
            found.append(path)
    return found


def _link(path: Path, target: Path) -> bool:
    """Make a hard link to the file itself, not to a link that stands for it; False where there can be none."""
    try:
        os.link(os.path.realpath(path), target)
    except OSError as error:
        if error.errno in NO_LINK:
            return False
        raise
    return True


def copy_file(path: Path, target: Path) -> None:
    """Copy a file's bytes into a new file, sharing blocks where the file system can."""
    with path.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
        except OSError:  # most file systems cannot, and each says so in its own way: then the bytes are copied
            shutil.copyfileobj(old, new, 2**20)
        new.flush()
        os.fsync(new.fileno())


def copied_bytes(plan: Plan, folder: Path) -> int:
    """Return how much room the copy needs below `folder` at most: tables, what is not linked, and lists."""
    tables = {kept.place.table for kept in plan.kept}
    videos = {clip.path for kept in plan.kept for clip in kept.files.clips.values()}
    if plan.source.version == "v3.0":
        per_camera = [list(files) for files in video_files(plan).values()]
        own_disk = {files[-1] for files in per_camera if files}
    else:
        own_disk = set()
    device = os.stat(folder).st_dev
    linked = {*videos, *(path for path in _others(plan.source.root) if path.suffix.lower() in SUFFIXES)} - own_disk
    elsewhere = {path for path in linked if os.stat(path).st_dev != device}
    copied = {*tables, *own_disk, *elsewhere, *_others(plan.source.root)} - (linked - elsewhere)
    return sum(path.stat().st_size for path in copied)
