"""Is this the data set that it was? What training reads of it, as hashes that a copy of the folder keeps.

Unlike `Dataset.fingerprint`, which tells a cache when its source was touched, this goes by content and by names inside
the folder: a run may go on on another machine, with a copy. Of a large file only both ends and the size are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pi05.data.lerobot.reader import Dataset

ENDS = 2**16
"""Bytes that are read at either end of a file with pictures."""


def identify(dataset: Dataset, cameras: Sequence[str]) -> dict[str, str]:
    """Return hashes of the numbers in their order, of each frame's task, and of the files with these pictures."""
    tasks = hashlib.sha256()
    for frame in range(dataset.num_frames):
        tasks.update(f"{dataset.task(frame)}\0".encode())
    return {
        "numbers": hash_numbers(dataset),
        "tasks": tasks.hexdigest(),
        "pictures": _hash_files(dataset.root, dataset.picture_files(cameras)),
    }


def hash_numbers(dataset: Dataset, frames: int | None = None) -> str:
    """Return the hash of states and actions, of the first `frames` frames or all: what the set was before it grew."""
    numbers = hashlib.sha256()
    for values in (dataset.states()[:frames], dataset.actions()[:frames]):
        numbers.update(f"{values.shape}\n".encode())
        numbers.update(values.tobytes())
    return numbers.hexdigest()


def is_data_of(dataset: Dataset, noted: Mapping[str, Any]) -> bool:
    """Tell whether this is the data set that a run has noted (`identify`, and its frames), or that one grown since.

    Texts of tasks and pictures may have been mended. Version 0.1 noted too little to tell.
    """
    frames, numbers = noted.get("frames"), noted.get("numbers")
    if not isinstance(frames, int) or not 0 < frames <= dataset.num_frames:
        return False
    return hash_numbers(dataset, frames) == numbers


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
