"""Our side of `lerobot_tabletop.py`: the simulator that LeRobot's commands drive, and a check of their actions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi05 import Policy
from pi05.sim.tabletop import Tabletop


@dataclass
class Chunk:
    """One prediction of LeRobot's policy: what it saw, its noise, and the actions that it executed."""

    observation: dict[str, Any]
    noise: np.ndarray
    executed: list[np.ndarray] = field(default_factory=list)


@contextmanager
def simulator(address: Path) -> Iterator[list[Chunk]]:
    """Serve one simulator to one client on a socket, and yield the list that its chunks are recorded in."""
    chunks: list[Chunk] = []
    with Listener(str(address), "AF_UNIX") as listener:
        thread = threading.Thread(target=lambda: _serve(listener.accept(), chunks), daemon=True)
        thread.start()
        yield chunks
    thread.join(timeout=10)


def _serve(client: Connection, chunks: list[Chunk]) -> None:
    simulation = Tabletop(family="demo")
    observation: dict[str, Any] = {}
    episodes = 0
    while True:
        try:
            request, value = client.recv()
        except EOFError:
            return
        if request == "reset":
            episodes += 1
            simulation.reset(episodes if value is None else int(value))
            observation = simulation.observe()
            client.send(observation)
        elif request == "step":
            chunks[-1].executed.append(np.array(value))
            done, success = simulation.step(value)
            observation = simulation.observe()
            client.send((observation, done, success))
        else:
            chunks.append(Chunk(observation, np.array(value)))
            client.send(None)


def closed_loop(policy: Policy, chunks: list[Chunk], limit: float, task: str | None = None) -> dict[str, Any]:
    """Compare each executed action with our policy's for the same observation, noise and task (or the one given)."""
    differences = []
    for chunk in chunks:
        if chunk.executed:
            seen = chunk.observation if task is None else chunk.observation | {"task": task}
            ours = policy.infer_batch([seen], noise=torch.from_numpy(chunk.noise))[0]
            differences.append(np.abs(ours[: len(chunk.executed)] - np.array(chunk.executed)).max())
    steps = sum(len(chunk.executed) for chunk in chunks)
    largest = float(max(differences, default=np.inf))
    told = {"chunks": len(differences), "executed actions": steps, "max difference of actions": largest}
    return {"pass": largest <= limit and len(differences) > 1} | told
