"""The processes of one run: who they are, how they meet, and what they tell each other.

`torchrun` starts one process per GPU and tells each its rank; without it there is one, and everything here is a no-op.
Tensors travel by NCCL between GPUs, everything else by gloo between the processes. Leaves out how the network is split
(`split.py`), whether the processes fit together (`rank_check.py`), and how all of them end when one fails (`fate.py`).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pi05.errors import TrainingError
from pi05.train.parallel.kind import World

T = TypeVar("T")
START_TIMEOUT = timedelta(minutes=5)
"""How long the processes wait for each other at the start."""
TIMEOUT = timedelta(minutes=30)
"""How long a collective may take; rank 0 writes a checkpoint of full size meanwhile."""
POLL = timedelta(seconds=2)
FAILURE = "pi05/failure"


def launched() -> bool:
    """Tell whether torchrun (or anything that sets its variables) started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def local_rank() -> int:
    """Return the number of this process on its machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0)) if launched() else 0


@dataclass
class Ranks:
    """One process among the `world_size` of a run."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    """Processes on this machine."""
    fewest_per_machine: int | None = None
    """Processes on the machine with the fewest; None: on all of them as many as here."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    store: dist.Store | None = None
    """Where the processes leave notes for each other; None when there is one process and no group."""
    _met: int = 0

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are other processes."""
        return self.world_size > 1

    @property
    def world(self) -> World:
        """The GPUs of the run: the same answer in every process."""
        return World(gpus=self.world_size, per_machine=self.fewest_per_machine or self.local_world_size)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over all processes (all-reduce), on the same device; waits for no device."""
        if self.several:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process: the same answer in all of them. Needs no GPU."""
        return bool(self.maxima([float(flag)])[0])

    def maxima(self, values: Sequence[float]) -> list[float]:
        """Return the largest of each value over all processes. Needs no GPU."""
        if not self.several:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return list(tensor.tolist())

    def gather(self, value: T) -> list[T]:
        """Return the plain data of all processes (all-gather), in the order of their ranks."""
        if not self.several:
            return [value]
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value)
        return found

    def from_first(self, value: T) -> T:
        """Return rank 0's plain data (broadcast)."""
        if not self.several:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def meet(self, timeout: timedelta | None = None) -> None:
        """Wait until all processes are here, however long that takes: a barrier.

        Raises TrainingError when one has failed.
        """
        if not self.several or self.store is None:
            return
        self._met += 1
        key = f"pi05/met/{self._met}"
        self.store.set(f"{key}/{self.rank}", "here")
        await_keys(self.store, [f"{key}/{rank}" for rank in range(self.world_size)], timeout)

    def in_turns(self, work: Callable[[], T]) -> T:
        """Do `work` on rank 0, then on the first rank of each other machine, then on the rest; return the own result.

        For work that leaves something on disk which those that follow find there.
        """
        own = 0 if self.first else 1 if self.local_rank == 0 else 2
        result: list[T] = []
        for turn in range(3 if self.several else 1):
            if turn == own:
                result.append(work())
            self.meet()
        return result[0]

    def one_by_one(self, work: Callable[[], T]) -> T:
        """Do `work` on one process of each machine after the other; return the own result.

        For work that takes more of a machine's memory than all its processes may take at once.
        """
        result: list[T] = []
        for turn in range(max(self.gather(self.local_world_size))):
            if turn == self.local_rank:
                result.append(work())
            self.meet()
        return result[0]


def await_keys(store: dist.Store, keys: list[str], timeout: timedelta | None = None) -> None:
    """Wait until all keys are there. Raises TimeoutError, or TrainingError when a process has noted that it failed."""
    started = time.monotonic()
    while not store.check(keys):
        raise_noted_failure(store)
        if timeout is not None and time.monotonic() - started > timeout.total_seconds():
            raise TimeoutError
        with suppress(dist.DistStoreError):
            store.wait(keys, POLL)


def raise_noted_failure(store: dist.Store) -> None:
    """Raise TrainingError when another process has noted that it failed."""
    if store.check([FAILURE]):
        raise OtherRankFailed(store.get(FAILURE).decode())


class OtherRankFailed(TrainingError):
    """Another process has ended the run; it has told the user why."""

    def __init__(self, text: str) -> None:
        super().__init__("the run has ended, since another process of it did", found=text, remedy="see to that error")


def join(device: torch.device, check: Callable[[dist.Store, int, int], None], *, alone: bool) -> Ranks:
    """Join the other processes that torchrun started; with `alone`, be the only one of a group of one.

    `check` gets the store, rank and number of processes before they are connected. Raises TrainingError when not all
    processes come, or they cannot reach each other.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if not launched():
        if not alone:
            return Ranks(device=device)
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        return Ranks(device=device)
    try:
        store, rank, world_size = next(dist.rendezvous("env://", timeout=START_TIMEOUT))
    except (dist.DistError, ValueError) as error:
        raise TrainingError(
            "this process found no meeting point with the others",
            wanted=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} answering within {START_TIMEOUT}",
            found=str(error).splitlines()[0],
            remedy="check that the machines reach each other there, or choose another --rdzv-endpoint of torchrun",
        ) from error
    ranks = Ranks(
        rank=rank,
        world_size=world_size,
        local_rank=local_rank(),
        local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", world_size)),
        device=device,
        store=store,
    )
    check(store, rank, world_size)
    group_store = dist.PrefixStore("pi05/group", store)
    dist.init_process_group(backend, store=group_store, rank=rank, world_size=world_size, timeout=TIMEOUT)
    prove_connected(ranks)
    ranks.fewest_per_machine = min(ranks.gather(ranks.local_world_size))
    return ranks


def prove_connected(ranks: Ranks) -> None:
    """Do one small sum over all devices. Raises TrainingError where that fails, or is wrong."""
    name = "NCCL" if ranks.device.type == "cuda" else "gloo"
    remedy = (
        f"set {name}_SOCKET_IFNAME to the network card that joins the machines; NCCL_DEBUG=INFO tells more, and so "
        "does pi05 doctor under torchrun"
    )
    try:
        total = ranks.sum(torch.ones((), device=ranks.device) * (ranks.rank + 1)).item()
    except RuntimeError as error:
        raise TrainingError(
            f"rank {ranks.rank} ({socket.gethostname()}) cannot reach the others by {name}",
            found=str(error).splitlines()[0],
            remedy=remedy,
        ) from error
    wanted = ranks.world_size * (ranks.world_size + 1) / 2
    if total != wanted:
        raise TrainingError("a sum over all ranks is wrong", wanted=f"{wanted}", found=f"{total}", remedy=remedy)
