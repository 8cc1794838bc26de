"""Files from the hub to the disk: resumed, side by side, proven by length and hash, whole under their names.

What arrives is kept in a part file that the next call goes on with, after a cut as after a kill. Only when its length
and hash are those that the hub told does it get its name. Where it shall lie is the caller's (`cache.py`,
`hub/fetch.py`).
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pi05.errors import HubError
from pi05.files import require_space, sync
from pi05.sources.client import (
    DOWNLOAD_SILENCE_S,
    READING,
    Endpoint,
    Listing,
    RemoteFile,
    WrongContent,
    judge_reading,
    reading,
    together,
)
from pi05.sources.faults import Fault, Patience, Say, refusal
from pi05.sources.progress import Progress

WORKERS = 8
BLOCK = 1 << 20
ROUNDS = 2
"""Times that a file is fetched anew from one address when its content is wrong."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A file to fetch: what it must be, where it grows, and what gives it its place when it is whole."""

    file: RemoteFile
    part: Path
    settle: Callable[[Path], None]
    """Takes the whole, proven part file to its place."""


@dataclass(kw_only=True)
class Transfer:
    """One repository's files on their way."""

    listing: Listing
    endpoints: Sequence[Endpoint]
    say: Say
    progress: Progress
    patience: Patience = READING
    silence_s: float = DOWNLOAD_SILENCE_S
    workers: int = WORKERS
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, items: Sequence[Item], folder: Path) -> None:
        """Fetch all items, the large ones first. `folder` is where room is needed.

        Raises HubError when no address has a file whole, or when there is no room; what has arrived is kept.
        """
        missing = sum(item.file.size - _size(item.part) for item in items)
        remedy = "free disk space, or choose a place on another disk (--to, or HF_HOME for the cache)"
        require_space(folder, max(0, missing), str(self.listing.source), HubError, remedy)
        self.progress.begin(str(self.listing.source), sum(item.file.size for item in items), len(items))
        self._stop.clear()
        queue = sorted(items, key=lambda item: -item.file.size)
        try:
            with ThreadPoolExecutor(max_workers=self.workers, thread_name_prefix="fetch") as pool:
                try:
                    futures = [pool.submit(self._fetch, item) for item in queue]
                    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                    failures = [error for future in done if (error := future.exception()) is not None]
                    if failures:
                        raise min(failures, key=lambda error: isinstance(error, _Stopped))
                finally:
                    self._stop.set()
                    pool.shutdown(wait=False, cancel_futures=True)
        finally:
            self.progress.end()

    def _fetch(self, item: Item) -> None:
        """Fetch one file from the first address that has it whole. Raises HubError."""
        refusals: list[HubError] = []
        for endpoint in self.endpoints:
            try:
                self._fetch_from(item, endpoint)
                return
            except _Stopped:
                raise
            except HubError as error:
                refusals.append(error)
        raise together(f"{item.file.path} of {self.listing.source} did not arrive", refusals)

    def _fetch_from(self, item: Item, endpoint: Endpoint) -> None:
        what = f"fetching {item.file.path} from {endpoint.address}"
        item.part.parent.mkdir(parents=True, exist_ok=True)
        self.progress.advance(_size(item.part))
        for _ in range(ROUNDS):
            self._arrive(item, endpoint, what)
            wrong = mismatch(item.part, item.file)
            if wrong is None:
                sync(item.part)
                item.settle(item.part)
                self.progress.finish_file()
                return
            self._drop(item)
            self.say(f"{what}: {wrong}; fetching it anew")
        raise HubError(
            f"{what} failed",
            found=f"what arrives is damaged, {ROUNDS} times: {wrong}",
            remedy="use another address (HF_ENDPOINT, --mirror), or try again later",
        )

    def _arrive(self, item: Item, endpoint: Endpoint, what: str) -> None:
        """Let the part file grow to its length; go on after faults that may pass, as long as something arrives."""
        judged_by = functools.partial(judge_reading, source=self.listing.source, endpoint=endpoint)
        waits = self.patience.waits()
        item.part.touch()
        while _size(item.part) < item.file.size:
            before = _size(item.part)
            fault: Fault | None = None
            try:
                self._stream(item, endpoint, before)
            except Exception as error:
                fault = judged_by(error)
                if fault is None:
                    raise
                if fault.status == 416 and before:  # the address has a shorter file; perhaps ours was cut wrongly
                    self._drop(item)
                    fault = Fault(f"{fault.found}: it has fewer than {before:,} bytes")
            arrived = _size(item.part)
            if arrived > before:
                waits = self.patience.waits()
            if arrived >= item.file.size:
                return
            if self._stop.is_set():  # another file has failed, or Ctrl-C
                raise _Stopped(f"{what} was stopped", remedy="run the same command again: it goes on where it stopped")
            fault = fault or Fault(f"the connection ended after {arrived:,} of {item.file.size:,} bytes")
            pause = next(waits, None)
            if fault.remedy is not None or pause is None:
                raise refusal(what, fault, "run the same command again later: it goes on where it stopped")
            pause = max(pause, fault.wait_s or 0.0)
            self.say(f"{what}: {fault.found}; going on in {pause:g} s")
            self.patience.sleep(pause)

    def _stream(self, item: Item, endpoint: Endpoint, start: int) -> None:
        """Append to the part file what one connection brings."""
        with reading(self.listing, item.file, endpoint, start, self.silence_s) as response:
            if start and not _begins_at(response, start):
                self._drop(item)
                start = 0
                if response.status_code == 206:
                    raise WrongContent("a piece of the file comes that was not asked for")
            with item.part.open("ab") as file:
                for block in response.iter_bytes():
                    if self._stop.is_set():
                        return
                    start += len(block)
                    if start > item.file.size:
                        raise WrongContent(f"more comes than the {item.file.size:,} bytes of the file")
                    file.write(block)
                    self.progress.advance(len(block))

    def _drop(self, item: Item) -> None:
        self.progress.advance(-_size(item.part))
        os.truncate(item.part, 0)


class _Stopped(HubError):
    """Given up because of another file."""


def _begins_at(response: Any, start: int) -> bool:
    """Tell whether an answer goes on at `start`; a server that knows no ranges sends all of the file."""
    told = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status_code == 206 and (told is None or int(told[1]) == start)


def mismatch(path: Path, file: RemoteFile) -> str | None:
    """Return how the content of `path` differs from what the hub told of the file; None where it is the same."""
    size = _size(path)
    if size != file.size:
        return f"{size:,} bytes where {file.size:,} should be"
    digest = hash_file(path, None if file.sha256 else file.size)
    wanted = file.sha256 or file.git_sha1
    kind = "SHA-256" if file.sha256 else "git's SHA-1"
    return None if digest == wanted else f"{kind} {digest[:12]}… where {str(wanted)[:12]}… should be"


def hash_file(path: Path, git_size: int | None = None) -> str:
    """Return the SHA-256 of a file, or with its length git's SHA-1 of a blob."""
    digest = hashlib.sha256() if git_size is None else hashlib.sha1(b"blob %d\0" % git_size)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def alone(lock: Path, what: str, say: Say) -> Iterator[None]:
    """Let one process after the other into the block; the kernel releases the lock when its owner ends, however.

    On a file system that knows no locks both go in: hashes and renames keep what they write whole. The block may remove
    the lock's folder when it is done.
    """
    import fcntl

    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+")
        _take(fcntl, file, lock, what, say)
        if lock.exists() and os.fstat(file.fileno()).st_ino == lock.stat().st_ino:
            break
        file.close()  # its owner has removed it
    with file:
        yield


def _take(fcntl: Any, file: IO[str], lock: Path, what: str, say: Say) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"another process is fetching {what}; waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        say(f"{lock} cannot be locked ({error}); do not fetch {what} twice at the same time")
