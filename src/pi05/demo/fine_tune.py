"""Fine-tuning on a CPU: a process for each core, as `torchrun` would start them, and this process the first of them.

The parts of a step of pi05-tiny are too small to be shared out over threads: two train it slower than one, and two
processes, each with its share of the batch, 1.6 times as fast as two threads (docs/LOG.md). N processes give the run of
one. Leaves out what they tell each other (`train/parallel/ranks.py`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

import torch

from pi05.machine import choose_device
from pi05.sim.kept_process import KeptProcess
from pi05.train.config import TrainConfig
from pi05.train.loop import TrainResult, train
from pi05.train.parallel.ranks import launched

MOST_PROCESSES = 4
"""More have not been measured."""
HERE = "127.0.0.1"
CARD = "GLOO_SOCKET_IFNAME"
"""The network card by which gloo's processes reach each other."""


def fine_tune(config: TrainConfig) -> TrainResult:
    """Train; on a CPU with as many processes of one thread as the config has threads, or the machine cores.

    Raises what `train` does. The others end with this process, however it ends.
    """
    processes = processes_for(config.samples_per_step(), config.threads or len(os.sched_getaffinity(0)))
    if processes == 1 or launched() or choose_device(config.policy.device).type != "cpu":
        return train(config)
    shared = replace(config, global_batch_size=config.samples_per_step(), threads=1)
    own_threads = torch.get_num_threads()
    try:
        with _others(shared, processes):
            return train(shared)
    finally:
        torch.set_num_threads(own_threads)


def processes_for(samples: int, cores: int) -> int:
    """Return how many processes share the samples of a step evenly, a core for each."""
    return max(count for count in range(1, min(cores, MOST_PROCESSES) + 1) if samples % count == 0)


@contextmanager
def _others(config: TrainConfig, processes: int) -> Iterator[None]:
    """Keep the other processes of a run, while this one takes part in it as the first."""
    told = {**_meeting_point(), "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    with ExitStack() as ends:
        for rank in range(1, processes):
            process = KeptProcess(take_part)
            ends.callback(process.end)
            process.send((config, told | _place(rank)))
        with _environment(told | _place(0)):
            yield


def take_part(connection: Connection) -> None:
    """Be one of the other processes, until the run ends."""
    config, environment = connection.recv()
    os.environ.update(environment)
    train(config, console=False)


def _place(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _meeting_point() -> dict[str, str]:
    """Return where the processes meet: a free port of this machine, which is reached without a network."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        port = str(probe.getsockname()[1])
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    card = {} if loopback is None or CARD in os.environ else {CARD: loopback}
    return {"MASTER_ADDR": HERE, "MASTER_PORT": port, **card}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have environment variables for the duration of a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
