"""The processes that share one evaluation: each takes its part of the episodes, the first writes the report.

`torchrun` (or anything that sets RANK and WORLD_SIZE) starts them; they meet in the output folder. Each holds a lock on
its file `rank-N` there as long as it lives, which the kernel releases however it ends: so the others notice, and end
too. No clocks are compared, and no ports are needed. In the file stands how far it is, or why it failed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from pi05.errors import EvaluationError
from pi05.eval.records import PARTIAL
from pi05.temporary import hold

POLL_S = 0.2
START_TIMEOUT_S = 900.0
"""How long the processes wait for each other to begin; one of them may still read its weights."""
HOLD_TIMEOUT_S = 5.0
HERE, GO, FINISHED, DONE, FAILED = "here", "go", "finished", "done", "failed: "


def launched() -> tuple[int, int]:
    """Return the number of this process and how many there are; 0 of 1 where nothing says so."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Return the number of this process on its machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class Company:
    """This process among those of the evaluation in `folder`."""

    def __init__(self, folder: Path, rank: int = 0, size: int = 1, start_timeout_s: float = START_TIMEOUT_S) -> None:
        self.rank, self.size = rank, size
        self.folder = folder
        self._folder, self._start_timeout_s = folder / PARTIAL, start_timeout_s
        self._handle: int | None = None

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def __enter__(self) -> Company:
        if not self.first:
            self._wait_for(partial(self._alive, 0), "the first process", limit_s=self._start_timeout_s)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._path(self.rank), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        started = time.monotonic()
        while (held := hold(self._handle, self._path(self.rank))) is False:
            if time.monotonic() - started > HOLD_TIMEOUT_S:
                os.close(self._handle)
                self._handle = None
                raise EvaluationError(
                    "another process evaluates in this folder now",
                    found=str(self._folder.parent),
                    remedy="wait for it, or choose another --output_dir",
                )
            time.sleep(POLL_S)
        if held is None and self.size > 1:
            raise EvaluationError(
                "several processes cannot share an evaluation in this folder: its file system knows no locks",
                found=str(self._folder.parent),
                remedy="choose an --output_dir on another disk",
            )
        self._say(HERE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is None:
            return
        if error is not None and not isinstance(error, OtherEnded):
            self._say(f"{FAILED}{str(error).splitlines()[0] if str(error) else type(error).__name__}")
        os.close(self._handle)
        self._handle = None

    def start(self) -> None:
        """Wait until all are here; the first has prepared the folder before it calls this."""
        if self.size == 1:
            return
        if self.first:
            for rank in range(1, self.size):
                self._wait_for(partial(self._alive, rank), f"process {rank}", limit_s=self._start_timeout_s)
            self._say(GO)
        else:
            while not self._first_says_go():
                self._require([0])  # others may come later
                time.sleep(POLL_S)

    def share(self, episodes: Sequence[int]) -> list[int]:
        """Return this process's part of the episodes: every so-manieth, whoever else is here."""
        return [episode for episode in episodes if episode % self.size == self.rank]

    def require_all(self) -> None:
        """Raise OtherEnded when one of the others has ended before its time."""
        self._require(range(self.size))

    def _require(self, ranks: Sequence[int]) -> None:
        for rank in ranks:
            if rank == self.rank or self._alive(rank):
                continue
            said = self._said(rank)
            if said not in (FINISHED, DONE):
                why = said.removeprefix(FAILED) if said.startswith(FAILED) else "it has left no word: was it killed?"
                raise OtherEnded(rank, why)

    def wait(self, there: Callable[[], bool]) -> None:
        """Wait until something is there that the others make. Raises OtherEnded when one of them cannot any more."""
        while not there():
            self.require_all()
            time.sleep(POLL_S)

    def all_finished(self) -> None:
        """Wait until all have carried out their parts; from then on the records are complete."""
        if self.size > 1:
            self._say(FINISHED)
            told = (FINISHED, DONE)
            self.wait(lambda: all(self._said(rank) in told for rank in range(self.size)))

    def leave(self) -> None:
        """Say that this process has read what it needs; the first one waits until all the others have."""
        self._say(DONE)
        if self.first:
            self.wait(lambda: all(self._said(rank) == DONE or not self._alive(rank) for rank in range(self.size)))

    def _path(self, rank: int) -> Path:
        return self._folder / f"rank-{rank}"

    def _say(self, text: str) -> None:
        assert self._handle is not None  # said between enter and exit only
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, text.encode(), 0)

    def _said(self, rank: int) -> str:
        try:
            return self._path(rank).read_text()
        except FileNotFoundError:
            return ""

    def _first_says_go(self) -> bool:
        """Tell whether all may begin. What a killed evaluation has left there is gone at the second look."""
        if self._said(0) not in (GO, FINISHED):
            return False
        time.sleep(POLL_S)
        return self._said(0) in (GO, FINISHED)

    def _alive(self, rank: int) -> bool:
        """Tell whether a process holds the lock of this file. Asking takes a shared lock, which hinders no other."""
        if rank == self.rank and self._handle is not None:
            return True
        try:
            handle = os.open(self._path(rank), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
        finally:
            os.close(handle)
        return False

    def _wait_for(self, there: Callable[[], bool], what: str, limit_s: float | None = None) -> None:
        started = time.monotonic()
        while not there():
            if limit_s is not None and time.monotonic() - started > limit_s:
                raise EvaluationError(
                    f"{what} of this evaluation has not come",
                    wanted=f"{self.size} processes (WORLD_SIZE) that see {self._folder.parent}",
                    found=f"none within {limit_s:g} s",
                    remedy="start all of them, with the same --output_dir on a disk that all of them see",
                )
            time.sleep(POLL_S)


class OtherEnded(EvaluationError):
    """Another process of the evaluation has ended; what is finished is kept."""

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(
            f"process {rank} of this evaluation has ended, and so has this one",
            found=why,
            remedy="see to that, then go on with --resume: finished episodes are kept",
        )
