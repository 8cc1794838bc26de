"""A short version of `benchmarks/serve_soak.py`, against the server in this process."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from programs import REPOSITORY, load_program
from serving import Network, listening


@pytest.fixture
def soaking(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))  # the programs there import each other
    return load_program("benchmarks/serve_soak.py")


def test_hostile_frames_and_broken_connections(soaking: ModuleType) -> None:
    """The robot is answered all the while, every frame is answered or refused, nothing is left behind."""
    with listening(Network(), max_message_mib=soaking.MESSAGE_MIB) as (address, server):
        port = int(address.rpartition(":")[2])
        found = soaking.soak(port, os.getpid(), frames=400, disconnects=20, rounds=1, say=lambda text: None)
        assert server.batcher.waiting == 0
        assert server.metrics.refused["internal"] == 0  # no frame has found a fault of the program
    assert (found["frames"], found["disconnects"]) == (400, 20)
    assert found["counts"]["answers"] + found["counts"]["error texts"] > 250
    assert found["robot_answers"] > 0
    assert server.metrics.refused["malformed"] > 60
    assert not server.sessions
    assert not Path("/tmp/pi05-serve-was-exploited").exists()


def test_the_frames_are_of_every_kind(soaking: ModuleType) -> None:
    frames = list(soaking.hostile_frames(1000))
    kinds = Counter(type(frame).__name__ for frame in frames)
    assert kinds["str"] > 5
    assert sum(len(frame) > soaking.MESSAGE_MIB * (1 << 20) for frame in frames) == 5
    assert len(set(frames)) > 800
