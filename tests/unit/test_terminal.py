"""Texts of other people on the terminal: spelt out, and no markup, wherever `rich` prints them."""

from __future__ import annotations

import io
import logging

import pytest
from rich.table import Table

from pi05 import cli
from pi05.errors import tell
from pi05.terminal import Counter, PlainConsole, say

EVIL = "a\x1b[2J\x1b]52;c;cm0\x07\x9b[red]b[/red]:bomb:\u202e\r"
SHOWN = r"a\u001b[2J\u001b]52;c;cm0\u0007\u009b[red]b[/red]:bomb:\u202e\u000d"


def test_lines_cells_and_titles_are_plain_text() -> None:
    written = io.StringIO()
    console = PlainConsole(file=written, width=400)
    table = Table(EVIL, title=EVIL, caption=EVIL)
    table.add_row(EVIL)
    console.print(table)
    console.print(EVIL, style="bold", soft_wrap=True)
    say(console, EVIL)
    assert written.getvalue().count(SHOWN) == 6
    assert not set(written.getvalue()) & set("\x1b\x07\x9b\u202e\r💣")


def test_style_is_that_of_the_program() -> None:
    written = io.StringIO()
    PlainConsole(file=written, force_terminal=True, width=400, color_system="standard").print(EVIL, style="bold")
    assert written.getvalue() == f"\x1b[1m{SHOWN}\x1b[0m\n"


def test_a_line_goes_to_either_stream(capsys: pytest.CaptureFixture[str]) -> None:
    tell(EVIL)
    tell(EVIL, aside=True)
    assert tuple(capsys.readouterr()) == (f"{SHOWN}\n", f"{SHOWN}\n")


@pytest.mark.parametrize(("enabled", "terminal"), [(True, False), (True, True), (False, False)])
def test_a_counter_is_ten_lines_or_a_bar(enabled: bool, terminal: bool) -> None:
    written = io.StringIO()
    console = PlainConsole(file=written, force_terminal=terminal, width=100)
    with Counter(25, "demonstrations", enabled=enabled, console=console) as counter:
        for number in range(25):
            counter.advance(f"[b]{number}")
    lines = [line for line in written.getvalue().splitlines() if line.startswith("  ")]
    assert len(lines) == (10 if enabled and not terminal else 0)
    assert ("━" in written.getvalue()) == (enabled and terminal)
    if lines:
        assert (lines[0], lines[-1]) == ("  3/25 demonstrations, [b]2", "  25/25 demonstrations, [b]24")


def test_log_records_are_shown_as_lines_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["--version"]) == 0
    capsys.readouterr()
    assert logging.lastResort is not None
    logging.lastResort.handle(logging.LogRecord("pi05", logging.WARNING, "", 0, "%s: odd", (EVIL,), None))
    assert capsys.readouterr().err == f"{SHOWN}: odd\n"
