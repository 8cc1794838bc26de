"""How many processes share a step, and what they are told; the runs themselves are in tests/e2e/test_fine_tune.py."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import pytest

from pi05.demo import fine_tune


@pytest.mark.parametrize(
    ("samples", "cores", "processes"),
    [(32, 1, 1), (32, 2, 2), (32, 3, 2), (32, 64, fine_tune.MOST_PROCESSES), (30, 4, 3), (7, 4, 1), (1, 2, 1)],
)
def test_each_process_gets_as_many_samples_and_a_core(samples: int, cores: int, processes: int) -> None:
    assert fine_tune.processes_for(samples, cores) == processes


def test_the_meeting_point_is_a_free_port_behind_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fine_tune.CARD, raising=False)
    point = fine_tune._meeting_point()
    with socket.socket() as server:
        server.bind((point["MASTER_ADDR"], int(point["MASTER_PORT"])))
    assert point[fine_tune.CARD] in {name for _, name in socket.if_nameindex()}
    monkeypatch.setenv(fine_tune.CARD, "mine")
    assert fine_tune.CARD not in fine_tune._meeting_point(), "what the user says goes first"


def test_variables_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "7")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with suppress(ZeroDivisionError), fine_tune._environment({"RANK": "0", "WORLD_SIZE": "2"}):
        assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("0", "2")
        raise ZeroDivisionError
    assert os.environ["RANK"] == "7"
    assert "WORLD_SIZE" not in os.environ
