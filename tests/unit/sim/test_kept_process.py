"""With how many threads a process of a simulator computes, and draws."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

import pytest

from pi05.sim.kept_process import DRAWING, MOST_DRAWING, ONE_THREAD, KeptProcess, drawing_threads


@pytest.mark.parametrize(
    ("cores", "processes", "threads"), [(2, 1, 2), (2, 2, 1), (2, 8, 1), (16, 5, 3), (96, 1, MOST_DRAWING)]
)
def test_drawing_takes_the_cores_that_nobody_else_takes(
    cores: int, processes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert drawing_threads(processes) == threads


def tell_threads(connection: Connection) -> None:
    """Run in the process that is started."""
    connection.send({name: os.environ[name] for name in (*ONE_THREAD, DRAWING)})


@pytest.mark.process
@pytest.mark.parametrize(("beside", "drawing"), [(None, "1"), (1, "3"), (2, "1")])
def test_a_process_computes_with_one_thread_and_draws_with_its_share(
    beside: int | None, drawing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*ONE_THREAD, DRAWING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    process = KeptProcess(tell_threads, beside=beside)
    try:
        assert process.receive() == dict.fromkeys(ONE_THREAD, "1") | {DRAWING: drawing}
    finally:
        process.end(10)


@pytest.mark.process
def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ONE_THREAD, DRAWING):
        monkeypatch.setenv(name, "7")
    process = KeptProcess(tell_threads, beside=1)
    try:
        assert process.receive() == dict.fromkeys((*ONE_THREAD, DRAWING), "7")
    finally:
        process.end(10)
