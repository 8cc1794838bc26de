"""Where text meets the terminal through `rich`: names of other people act on nothing and are no markup.

Names of data sets, cameras, tasks and checkpoints come from anywhere. A control sequence in one could clear the screen
or fill the clipboard, `[red]` or `:bomb:` would be read by `rich`. So every console of this program is one of these;
lines without `rich` go through `errors.tell`. Leaves out the console of a run that outlives its reader
(`train/records/console.py`), which is made of this one.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from pi05.errors import visible


class PlainConsole(Console):
    """A console that prints every text as it is, with what would act on the terminal spelt out.

    Lines, cells and titles of tables all become text in `render_str`. Style is given by `style=`, never in the text.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "markup": False, "emoji": False, "highlight": False})

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return the text as `rich` prints it."""
        return super().render_str(visible(text), **{**settings, "markup": False, "emoji": False, "highlight": False})


def say(console: Console, text: str) -> None:
    """Print plain text without wrapping or colouring it."""
    console.print(visible(text), soft_wrap=True, markup=False, emoji=False, highlight=False)


class Counter:
    """Counts what a command has done: a bar where there is a terminal, ten lines where there is none."""

    def __init__(self, total: int | None, what: str, *, enabled: bool = True, console: Console | None = None) -> None:
        """Count up to `total` of `what`, a noun in the plural; None: nobody knows how many come.

        Without `enabled` nothing is shown.
        """
        self.total, self.done = total, 0
        self._what, self._enabled = what, enabled
        self._console = console or PlainConsole()
        self._bar: Progress | None = None

    def __enter__(self) -> Counter:
        if self._enabled and self._console.is_terminal:
            told = TextColumn("{task.description}", markup=False)
            columns = (TextColumn(self._what, markup=False), BarColumn(), MofNCompleteColumn(), told)
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
            self._bar.add_task("", total=self.total)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, remark: str = "") -> None:
        """Count one more; `remark` stands beside the number."""
        self.done += 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, description=visible(remark))
        elif self._enabled and self._tenth(self.done) > self._tenth(self.done - 1):
            total = "" if self.total is None else f"/{self.total}"
            say(self._console, f"  {self.done}{total} {self._what}{f', {remark}' if remark else ''}")

    def _tenth(self, done: int) -> int:
        """Return how many lines there are after so many: ten in all, or one for every fifty."""
        return done // 50 if self.total is None else done * 10 // self.total
