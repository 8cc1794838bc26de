"""Progress of an evaluation on the terminal: a bar where there is one, ten lines where there is none."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pi05.eval.episode import EpisodeResult


class EpisodeProgress:
    """Counts episodes and successes while an evaluation runs."""

    def __init__(self, total: int, *, enabled: bool, console: Console | None = None) -> None:
        self.total = total
        self.done = self.successes = self.errors = 0
        self._enabled = enabled
        self._console = console or Console()
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> EpisodeProgress:
        if self._enabled and self._console.is_terminal:
            columns = (
                TextColumn("evaluating"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(self._text(), total=self.total)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, episode: EpisodeResult) -> None:
        """Count one finished episode."""
        self.done += 1
        self.successes += episode.outcome == "success"
        self.errors += episode.outcome == "error"
        if self._bar is not None:
            self._bar.update(self._task, advance=1, description=self._text())
        elif self._enabled and self.done * 10 // self.total > (self.done - 1) * 10 // self.total:
            self._console.print(f"  {self.done}/{self.total} episodes, {self._text()}", highlight=False)

    def _text(self) -> str:
        errors = f", {self.errors} simulator exceptions" if self.errors else ""
        return f"{self.successes} successes{errors}"
