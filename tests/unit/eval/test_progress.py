from __future__ import annotations

import io

import pytest
from rich.console import Console

from pi05.eval.episode import EpisodeResult, Outcome
from pi05.eval.progress import EpisodeProgress


def ended(index: int, outcome: Outcome) -> EpisodeResult:
    return EpisodeResult(index=index, seed=index, instruction="a", asked="a", outcome=outcome, steps=1)


@pytest.mark.parametrize(("enabled", "terminal"), [(True, False), (True, True), (False, False)])
def test_ten_lines_without_a_terminal_and_a_bar_with_one(enabled: bool, terminal: bool) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=100)
    with EpisodeProgress(50, enabled=enabled, console=console) as progress:
        for index in range(50):
            progress.advance(ended(index, "error" if index == 49 else "success" if index % 2 else "failure"))
    lines = [line for line in written.getvalue().splitlines() if line.startswith("  ")]
    assert len(lines) == (10 if enabled and not terminal else 0)
    assert ("━" in written.getvalue()) == (enabled and terminal)
    assert (progress.done, progress.successes, progress.errors) == (50, 24, 1)
    if lines:
        assert lines[0] == "  5/50 episodes, 2 successes"
        assert lines[-1] == "  50/50 episodes, 24 successes, 1 simulator exceptions"
