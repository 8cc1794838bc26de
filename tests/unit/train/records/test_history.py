"""Dates and machines of a run."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from pi05.train.records.history import HISTORY, close_session, open_session, read_history


def test_every_session_is_noted_with_dates_and_machine(tmp_path: Path) -> None:
    open_session(tmp_path, 0, "cpu")
    running = read_history(tmp_path)
    assert [(s["ended"], s["status"]) for s in running] == [(None, "running or killed")]
    close_session(tmp_path, 7, "interrupted")
    open_session(tmp_path, 7, "cuda:0")
    close_session(tmp_path, 12, "finished")
    first, second = read_history(tmp_path)
    assert (first["first_step"], first["last_step"], first["status"]) == (0, 7, "interrupted")
    assert (second["first_step"], second["last_step"], second["status"]) == (7, 12, "finished")
    assert second["device"] == "cuda:0"
    assert set(second["machine"]) >= {"processor", "gpu", "torch"}
    started = datetime.fromisoformat(second["started"])
    assert started.utcoffset() == timedelta(0)
    assert started <= datetime.fromisoformat(second["ended"])


def test_a_run_without_a_history_has_none(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    close_session(tmp_path, 3, "finished")
    assert read_history(tmp_path) == []
    for damaged in ("{", "[]", '{"sessions": 3}'):
        (tmp_path / HISTORY).write_text(damaged)
        assert read_history(tmp_path) == []
