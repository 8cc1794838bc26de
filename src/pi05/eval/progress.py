"""Progress of an evaluation on the terminal: episodes, and how many of them succeeded."""

from __future__ import annotations

from rich.console import Console

from pi05.eval.episode import EpisodeResult
from pi05.terminal import Counter


class EpisodeProgress:
    """Counts episodes and successes while an evaluation runs."""

    def __init__(self, total: int | None, *, enabled: bool, console: Console | None = None) -> None:
        self.successes = self.errors = 0
        self._counter = Counter(total, "episodes", enabled=enabled, console=console)

    @property
    def done(self) -> int:
        """Episodes that have ended."""
        return self._counter.done

    def __enter__(self) -> EpisodeProgress:
        self._counter.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._counter.__exit__()

    def advance(self, episode: EpisodeResult) -> None:
        """Count one finished episode."""
        self.successes += episode.outcome == "success"
        self.errors += episode.outcome == "error"
        errors = f", {self.errors} simulator exceptions" if self.errors else ""
        self._counter.advance(f"{self.successes} successes{errors}")
