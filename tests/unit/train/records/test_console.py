"""A run outlives its console: a reader that goes away, a full disk, a closed stream."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pi05.train.records.console import LastingStream

PRINTS = """
import sys, time
from pi05.train.records.console import run_console
console = run_console(quiet=False)
for number in range(2000):
    console.print(f"line {number} " + "x" * 200)
print("after", file=sys.stderr)
print("to standard output, as Python does at the end")
"""


@pytest.mark.process
def test_a_reader_that_goes_away_ends_nothing() -> None:
    """As behind `| head -1`."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("line 0")
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), told) == (0, "after\n")


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_behind_the_console_ends_nothing() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", PRINTS], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "after\n")


def test_a_closed_stream_takes_text_to_nowhere() -> None:
    stream = io.StringIO()
    lasting = LastingStream(stream)
    assert lasting.write("seen") == 4
    assert stream.getvalue() == "seen"
    stream.close()
    assert lasting.write("unseen") == 6
    lasting.flush()


def test_what_a_console_asks_of_a_stream_is_that_streams() -> None:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        lasting = LastingStream(nowhere)
        assert (lasting.encoding, lasting.isatty(), lasting.fileno()) == ("utf-8", False, nowhere.fileno())
