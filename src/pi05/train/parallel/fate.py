"""How the failure of one process of a run ends them all, each with the error that was the first one.

A process that fails leaves a note where the others look while they wait (`ranks.py`). Torch's own words for a partner
that is gone ("connection closed by peer") are replaced by why it has gone.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch.distributed as dist

from pi05.errors import TrainingError, UserError
from pi05.train.parallel.ranks import FAILURE, OtherRankFailed, Ranks, raise_noted_failure

EXIT_CODE = 2
"""The command line's code for an error that the user can put right."""
YIELD_SECONDS = 1.0
"""How long the others let rank 0 speak first."""


@contextmanager
def one_fate(ranks: Ranks) -> Iterator[None]:
    """End all processes when one fails, each with the error that was the first one, and leave the group at the end.

    What a collective says when its partner is gone ("connection closed by peer") is replaced by why it has gone. What
    rank 0 says too, the others do not repeat.
    """
    try:
        yield
    except Exception as error:
        if not ranks.several or ranks.store is None:
            raise
        told = _first_cause(ranks, error)
        if told is None or (not ranks.first and isinstance(told, OtherRankFailed)):
            raise SystemExit(EXIT_CODE) from None
        raise told from (None if told is error else error)
    finally:
        if dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()


def _first_cause(ranks: Ranks, error: Exception) -> Exception | None:
    """Return the error that the user should read from this process; None when rank 0 says the same."""
    if isinstance(error, OtherRankFailed) or ranks.store is None:
        return error
    if isinstance(error, RuntimeError):
        try:
            _raise_first_failure(ranks.store, error)
        except TrainingError as cause:
            return cause
    if not ranks.first:
        time.sleep(YIELD_SECONDS)
    with suppress(RuntimeError):
        if not ranks.first and ranks.store.check([FAILURE]):
            first = ranks.store.get(FAILURE).decode()
            if first.startswith("rank 0 ") and first.endswith(f": {error}"):
                return None
    note_failure(ranks.store, ranks.rank, error)
    if isinstance(error, UserError) and not ranks.first:
        error.problem = f"rank {ranks.rank} ({socket.gethostname()}): {error.problem}"
    return error


def note_failure(store: dist.Store, rank: int, error: BaseException) -> None:
    """Leave word for the other processes, and for torchrun's summary, why this one ends; the first word stays."""
    text = f"rank {rank} ({socket.gethostname()}): {error or type(error).__name__}"
    with suppress(RuntimeError):
        store.compare_set(FAILURE, "", text)
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    with suppress(OSError):
        get_error_handler().record_exception(error)


def _raise_first_failure(store: dist.Store, error: Exception) -> None:
    """Raise what another process has noted, if it has within a moment; else say that it vanished without a word."""
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    try:
        for _ in range(3):
            raise_noted_failure(store)
            time.sleep(0.5)
    except RuntimeError:  # the store has gone with its process
        told = f"{told}; the meeting point is gone too"
    lost = ("closed by peer", "reset by peer", "timed out", "timeout", "broken pipe", "remote process", "store")
    if any(word in str(error).lower() for word in lost):
        raise TrainingError(
            "another process of the run ended without a word, or hangs",
            found=told,
            remedy=("torchrun names it below; " if "TORCHELASTIC_RUN_ID" in os.environ else "")
            + "exit code -9 is the system's lack of memory, or somebody's kill. Continue with --resume",
        ) from error
