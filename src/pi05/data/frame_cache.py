"""Decoded, resized frames on disk, so that training reads an array instead of seeking in videos.

One sequential pass per video writes `uint8[frames, cameras, size, size, 3]` as a NumPy file, which is then mapped into
memory. The file's name carries a hash of everything that its content depends on: the source (files with sizes and
times), cameras, size, kind of resize. A changed source therefore gives a new file, and the stale one is deleted.
Bytes hold LeRobot's resize to within 0.5 of 255; openpi's is in bytes anyway. Leaves out augmentation, and any
compression.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from pi05.data.resize import OPENPI_RESIZE, Resize, fit_image_to_bytes
from pi05.errors import DataError
from pi05.files import expand_home, no_space, replacing, require_space, size_text
from pi05.temporary import alone, remove_leftovers

Progress = Callable[[int, int, str], None]
"""Called with (frames done, frames in all, what is being done), first with 0 done; frames of one camera each."""


@runtime_checkable
class FrameSource(Protocol):
    """Where the loader takes pictures from: all cameras of one frame, in slot order."""

    camera_keys: tuple[str, ...]
    image_size: int

    def images(self, index: int) -> UInt8[np.ndarray, "C size size 3"]:
        """Return the pictures of a frame by its global number."""


class FrameCache:
    """Pictures of a data set in one memory-mapped file."""

    def __init__(self, path: Path, camera_keys: Sequence[str]) -> None:
        self.path = path
        self.camera_keys = tuple(camera_keys)
        self._frames: np.ndarray = np.load(path, mmap_mode="r")
        self.image_size = int(self._frames.shape[2])

    def __len__(self) -> int:
        return len(self._frames)

    @classmethod
    def build(
        cls,
        dataset: Any,
        camera_keys: Sequence[str],
        image_size: int,
        directory: Path | str | None = None,
        progress: Progress | None = None,
        episodes: Sequence[int] | None = None,
        resize: Resize = OPENPI_RESIZE,
    ) -> FrameCache:
        """Open the cache of a data set, making it first where it is missing or its source has changed.

        Without `directory` it goes to $PI05_CACHE, or ~/.cache/pi05/frames. `progress` first hears the size, or that
        another process is making the same cache, which is waited for.
        With `episodes` only those are decoded; the frames of others are black, and their videos may be broken. Raises
        DataError when the disk has no room, or when a video does not hold the frames that it should.
        """
        folder = cache_directory(directory)
        wanted = sorted(range(len(dataset.episodes)) if episodes is None else set(episodes))
        chosen = "" if len(wanted) == len(dataset.episodes) else f"\n{wanted}"
        source = f"{Path(dataset.root).resolve()}\n{','.join(camera_keys)}\n{image_size}\n{resize}{chosen}"
        name = f"{Path(dataset.root).resolve().name}-{_hash(source)}"
        path = folder / f"{name}-{_hash(dataset.fingerprint())}.npy"
        shape = (dataset.num_frames, len(camera_keys), image_size, image_size, 3)
        report = progress or _silent
        if not is_whole(path, shape):
            require_room(folder, math.prod(shape))
            with alone(path, lambda: report(0, 0, f"waiting for another process, which is writing {path}")):
                if not is_whole(path, shape):
                    _write(path, shape, dataset, camera_keys, wanted, report, resize)
            for other in folder.glob(f"{glob.escape(name)}-*.npy"):
                if other != path:
                    other.unlink(missing_ok=True)  # same data set before it changed
        return cls(path, camera_keys)

    def images(self, index: int) -> UInt8[np.ndarray, "C size size 3"]:
        """Return the pictures of a frame by its global number; a view into the mapped file, not to be written to."""
        return self._frames[index]


def cache_directory(directory: Path | str | None = None) -> Path:
    """Return the folder for frame caches: the given one, $PI05_CACHE, or ~/.cache/pi05/frames."""
    chosen = directory or os.environ.get("PI05_CACHE") or "~/.cache/pi05/frames"
    return expand_home(chosen)


def _write(
    path: Path,
    shape: tuple[int, ...],
    dataset: Any,
    camera_keys: Sequence[str],
    episodes: Sequence[int],
    report: Progress,
    resize: Resize,
) -> None:
    """Fill the file under a temporary name, put it on disk, rename it."""
    count = sum(dataset.episodes[index].length for index in episodes)
    total = count * shape[1]
    report(0, total, f"resizing {count:,} frames of {shape[1]} cameras to {path}, {size_text(math.prod(shape))}")
    done = 0
    with replacing(path) as temporary:
        frames = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        reserve_file(temporary)
        for camera, key in enumerate(camera_keys):
            for episode in (dataset.episodes[index] for index in episodes):
                pictures = _exactly(dataset.iter_frames(key, episode.index), episode.length, key, episode.index)
                for offset, picture in enumerate(pictures):
                    frames[episode.start + offset, camera] = fit_image_to_bytes(picture, shape[2], resize)
                done += episode.length
                report(done, total, f"resizing {key}")
        frames.flush()
        del frames


def reserve_file(path: Path, what: str = "the resized frames", instead: str = "") -> None:
    """Take the disk space now: writing to a mapped file on a full disk would kill the process, not raise."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise no_space(path.parent, path.stat().st_size, what, DataError, _larger_disk(instead)) from error
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot reserve
                    raise


def is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Tell whether the file is there and holds what it should; a copied cache may have been cut off."""
    try:
        return np.load(path, mmap_mode="r").shape == shape
    except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
        return False


def _exactly(pictures: Iterator[np.ndarray], length: int, key: str, episode: int) -> Iterator[np.ndarray]:
    """Pass the pictures on; raise DataError when there are fewer or more than the episode has frames."""
    count = 0
    for picture in pictures:
        count += 1
        if count <= length:
            yield picture
    if count != length:
        raise DataError(
            f"the video of {key} does not fit episode {episode}",
            wanted=f"{length} frames, one per row of the parquet file",
            found=f"{count}",
            remedy=f"record or download it again, or leave it out: --dataset.exclude_episodes '[{episode}]'",
        )


def _silent(done: int, total: int, text: str) -> None:
    pass


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def require_room(folder: Path, size_bytes: int, what: str = "the resized frames", instead: str = "") -> None:
    """Make the folder, remove what killed processes left in it, and ask for room for `what` and some more.

    Raises DataError when the folder cannot be written, or its disk has no room.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(
            f"no permission to write {what} into {folder}",
            wanted="a folder that can be written",
            remedy="set PI05_CACHE or --dataset.cache_dir to another folder" + (instead and f", or {instead}"),
        )
    remove_leftovers(folder, suffix=".npy")
    require_space(folder, size_bytes, what, DataError, _larger_disk(instead))


def _larger_disk(instead: str) -> str:
    remedy = "set PI05_CACHE or --dataset.cache_dir to a folder on a larger disk, or free some space"
    return remedy + (instead and f", or {instead}")
