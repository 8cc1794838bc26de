"""One process writes a run: a lock on its folder, which the kernel releases when its owner ends, however that happens.

RUN/.lock is the file that is locked (flock); it names the owner and stays behind, unlocked.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import IO

from pi05.errors import ConfigError

LOCK = ".lock"
logger = logging.getLogger(__name__)


class RunLock:
    """The right to write a run's folder, from `take` to the end of the `with` block.

    Of the processes of a distributed run one has it `held`; the others write what that one lets them.
    """

    def __init__(self, run: Path, *, held: bool = True) -> None:
        self.path = run / LOCK
        self._held = held
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the lock; the folder has to be there. Raises ConfigError when another process has it.

        On a file system that knows no locks a warning takes its place.
        """
        if self._file is not None or not self._held:
            return
        file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(200).strip() or "a process that has not said its name yet"
            file.close()
            raise ConfigError(
                f"another process is writing this run, {self.path.parent}",
                wanted="one process for each run",
                found=owner,
                remedy="wait for it, or end it; or choose another --output_dir",
            ) from None
        except OSError as error:
            logger.warning(
                "%s cannot be locked (%s): see to it that no other process writes this run", self.path, error
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()  # which releases it
            self._file = None
