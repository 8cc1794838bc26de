"""Errors that a user can cause, and how they read.

Every such error says what was wanted, what was found and what to do. The command line prints the three parts and exits
with code 2, without a traceback. Programming errors stay ordinary exceptions.

What the operating system refuses (a full disk, a folder that may not be written, no memory) is of the same kind:
`doing` turns it into such an error, in the one place that knows what was being done and where.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

INTERRUPTED = 130
"""Exit code after Ctrl-C, or the SIGTERM of a run that is saved then."""


class UserError(Exception):
    """Stop with a message that a user can act on.

    `problem` is one sentence in plain words, `wanted` and `found` are short values or sentences. `remedy` is the next
    thing to type or to change.
    """

    def __init__(self, problem: str, *, wanted: str | None = None, found: str | None = None, remedy: str) -> None:
        self.problem = problem
        self.wanted = wanted
        self.found = found
        self.remedy = remedy
        super().__init__(self.render())

    def render(self) -> str:
        """Return the message as up to four lines."""
        lines = [self.problem]
        if self.wanted is not None:
            lines.append(f"  wanted: {self.wanted}")
        if self.found is not None:
            lines.append(f"  found:  {self.found}")
        lines.append(f"  to do:  {self.remedy}")
        return visible("\n".join(lines))


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters but tab and line feed, marks that turn the direction of writing, halves of surrogate pairs."""
_LOGIN = re.compile(r"(?<=://)[^/\s]+@")  # to the last @ of the host's part: a password may hold one


def visible(text: str) -> str:
    """Return text as a terminal may show it: what would act on the terminal is spelt out, logins in addresses are not.

    Names of data sets, cameras and tasks come from other people. The spelling is that of JSON, so that JSON stays JSON.
    """
    return _LOGIN.sub("***@", _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def tell(text: str, *, aside: bool = False, at_once: bool = False) -> None:
    """Print a line; `aside` is standard error, for what does not belong to a command's result.

    With `at_once` a file or a pipe gets it now, which long commands want; but a reader that has gone ends them there.

    Every line of this program that `rich` does not print (`terminal.py`) is printed here.
    """
    print(visible(text), file=sys.stderr if aside else sys.stdout, flush=at_once)


class ConfigError(UserError):
    """A flag or a configuration value that cannot be."""


class DataError(UserError):
    """A data set that is broken, incomplete or not what the run needs.

    `topic` is what of it, in one word; `episodes` and `cameras` are those without which the rest could be read.
    """

    def __init__(
        self,
        problem: str,
        *,
        wanted: str | None = None,
        found: str | None = None,
        remedy: str,
        topic: str = "contents",
        episodes: Sequence[int] = (),
        cameras: Sequence[str] = (),
    ) -> None:
        super().__init__(problem, wanted=wanted, found=found, remedy=remedy)
        self.topic, self.episodes, self.cameras = topic, tuple(episodes), tuple(cameras)


class CheckpointError(UserError):
    """A checkpoint that is missing, incomplete, or does not fit the model."""


class TrainingError(UserError):
    """A run that must stop: non-finite loss, no disk space, a device that is not there."""


class EvaluationError(UserError):
    """An evaluation that cannot be carried out as asked."""


class ServeError(UserError):
    """A server that cannot start, or a client that cannot use it."""


class Refused(UserError):
    """A message, or an observation in it, that a policy server does not answer; the connection goes on.

    `code` is for programs: malformed, unsupported, observation, late, busy, rate, stopping, internal; of real-time
    chunking forgotten (the chunk that should be continued) and delay (more than can be continued).
    """

    def __init__(
        self, problem: str, *, code: str, wanted: str | None = None, found: str | None = None, remedy: str
    ) -> None:
        self.code = code
        super().__init__(problem, wanted=wanted, found=found, remedy=remedy)


class HubError(UserError):
    """A policy that cannot be published: no login, no permission, a name that cannot be, an upload that failed."""


DOCTOR = "pi05 doctor looks at this installation, and says what mends it"
_OF_THE_GPU = re.compile("CUDA|NCCL|cuDNN|CUBLAS|NVIDIA|no kernel image", re.I)


def broken_installation(error: ImportError) -> UserError:
    """Return what the user is told about a package that cannot be imported."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{error.name or 'a package'} cannot be imported", found=said, remedy=DOCTOR)


def gpu_hint(error: RuntimeError) -> str | None:
    """Return what to do after an error of CUDA or NCCL; None for any other. Memory is `is_out_of_memory`'s."""
    return f"to do: {DOCTOR}" if _OF_THE_GPU.search(str(error)) else None


@contextmanager
def doing(what: str, path: str | os.PathLike[str] | None = None, error: type[UserError] = UserError) -> Iterator[None]:
    """Turn what the operating system refuses in this block into `error`: "cannot {what}".

    A reader of standard output that went away stays what it is: nobody is left to be told. So does every RuntimeError
    but those in which torch says that there is no memory.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, MemoryError, RuntimeError) as refusal:
        if isinstance(refusal, RuntimeError) and not is_out_of_memory(refusal):
            raise
        raise refused(what, path, refusal, error) from refusal


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that there is no memory: Python's, or one of torch, which is not imported here."""
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    of_torch = any(kind.__name__ == "OutOfMemoryError" and kind.__module__ == "torch" for kind in type(error).__mro__)
    return of_torch or any(words in str(error) for words in _NO_MEMORY)


_NO_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "CUDA out of memory", "CUDA error: out of memory")
"""What torch says in a plain RuntimeError: on a CPU, and where CUDA itself finds no memory."""


def refused(
    what: str,
    path: str | os.PathLike[str] | None,
    refusal: OSError | MemoryError | RuntimeError,
    error: type[UserError] = UserError,
) -> UserError:
    """Return what the user is told about something that the operating system, or the GPU's memory, refused."""
    if not isinstance(refusal, OSError):
        return error(
            f"cannot {what}: not enough memory",
            wanted=None if path is None else os.fspath(path),
            found=str(refusal).strip().split("\n")[0] or "the system gave no more memory",
            remedy="close other programs, use a machine or GPU with more memory, or ask for less at once; pi05 plan "
            "tells what a training run needs",
        )
    if refusal.errno is None and "shared object" in str(refusal):  # torch loads its libraries by hand
        return error(f"cannot {what}: a library cannot be loaded", found=str(refusal), remedy=DOCTOR)
    reason = refusal.strerror or str(refusal) or type(refusal).__name__
    names = [os.fsdecode(name) for name in (refusal.filename, refusal.filename2) if isinstance(name, str | bytes)]
    found = f"{reason}: {' -> '.join(names)}" if names else reason
    return error(
        f"cannot {what}" + ("" if path is None else f": {os.fspath(path)}"),
        found=found,
        remedy=_REMEDIES.get(refusal.errno or 0, "check the path and the disk"),
    )


_ROOM = "free disk space, or choose a place on another disk"
_RIGHTS = "allow this user to read and write there (ls -l shows the permissions), or choose another place"
_KIND = "remove or rename what stands there, or choose another path"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or choose a disk that takes larger files",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "choose a place on a disk that can be written",
    errno.ENOTDIR: f"a file stands where a folder should be: {_KIND}",
    errno.EISDIR: f"a folder stands where a file should be: {_KIND}",
    errno.EEXIST: _KIND,
    errno.ENOTEMPTY: _KIND,
    errno.ENOENT: "check the path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "the links lead in a circle: correct them",
    errno.EMFILE: "raise the limit of open files: ulimit -n 65536",
    errno.EIO: "the disk has a fault: use another one",
}
