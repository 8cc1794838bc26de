"""A line every ten seconds where there is no terminal."""

from __future__ import annotations

import io
import sys

import pytest

from pi05.sources.progress import Progress


def test_lines_tell_share_files_and_speed() -> None:
    said: list[str] = []
    now = [0.0]
    progress = Progress(said.append, lambda: now[0])
    progress.begin("lab/model", 1000, 2)
    for second in range(1, 26):
        now[0] = float(second)
        progress.advance(20)
        if second == 15:
            progress.finish_file()
    progress.end()
    assert said[0] == "fetching lab/model: 2 files, 1 kB"
    assert said[1:] == [
        "lab/model: 20%, 200 bytes of 1 kB, 0 of 2 files, 20 bytes/s",
        "lab/model: 40%, 400 bytes of 1 kB, 1 of 2 files, 20 bytes/s",
    ]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(lambda _: None)
    progress.begin("lab/model", 10, 1)
    progress.advance(10)
    progress.end()
    assert "10/10 bytes" in terminal.getvalue()
