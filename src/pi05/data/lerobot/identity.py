"""Is this the data set that it was? What training reads of it, as hashes that a copy of the folder keeps.

Unlike `Dataset.fingerprint`, which tells a cache when its source was touched, this goes by content and by names inside
the folder: a run may go on on another machine, with a copy. Of a large file only both ends and the size are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from pi05.data.lerobot.reader import Dataset

ENDS = 2**16
"""Bytes that are read at either end of a file with pictures."""


def identify(dataset: Dataset, cameras: Sequence[str]) -> dict[str, str]:
    """Return hashes of the numbers in their order, of each frame's task, and of the files with these pictures."""
    return {**identify_rows(dataset), "pictures": _hash_files(dataset.root, dataset.picture_files(cameras))}


def identify_rows(dataset: Dataset) -> dict[str, str]:
    """Return hashes of the numbers in their order and of each frame's task: the same of a set without its pictures."""
    numbers = hashlib.sha256()
    for values in (dataset.states(), dataset.actions()):
        numbers.update(f"{values.shape}\n".encode())
        numbers.update(values.tobytes())
    tasks = hashlib.sha256()
    for frame in range(dataset.num_frames):
        tasks.update(f"{dataset.task(frame)}\0".encode())
    return {"numbers": numbers.hexdigest(), "tasks": tasks.hexdigest()}


def _hash_files(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if not path.is_file():  # an unused episode's
            continue
        size = path.stat().st_size
        digest.update(f"{path.relative_to(root)} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(ENDS))
            if size > ENDS:
                file.seek(max(ENDS, size - ENDS))
                digest.update(file.read(ENDS))
    return digest.hexdigest()
