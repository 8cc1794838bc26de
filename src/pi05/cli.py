"""The command table. No torch is imported before a command runs, so that `--help` answers at once.

Exit codes: 0 done; 1 the demo missed a goal, doctor found something to mend, check found an error, or replay failed;
2 something that the user can put right, or that the system refuses, told without a traceback; 130 interrupted. Any
other exception is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

import difflib
import io
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pi05
from pi05.commands import (
    check,
    collect,
    demo,
    doctor,
    eval,
    export,
    fetch,
    inspect,
    plan,
    push,
    replay,
    report,
    serve,
    train,
)
from pi05.commands.command import OFFLINE, Command
from pi05.commands.completion import completion_command
from pi05.errors import (
    INTERRUPTED,
    ConfigError,
    UserError,
    broken_installation,
    gpu_hint,
    is_out_of_memory,
    refused,
    tell,
    visible,
)
from pi05.settings.flags import help_text, parse_value, spellings_text
from pi05.train.interrupt import sigterm_as_interrupt

COMMANDS: dict[str, Command] = {
    "doctor": doctor.COMMAND,
    "check": check.COMMAND,
    "fetch": fetch.COMMAND,
    "train": train.COMMAND,
    "plan": plan.COMMAND,
    "eval": eval.COMMAND,
    "serve": serve.COMMAND,
    "export": export.COMMAND,
    "inspect": inspect.COMMAND,
    "push": push.COMMAND,
    "collect": collect.COMMAND,
    "replay": replay.COMMAND,
    "demo": demo.COMMAND,
    "report": report.COMMAND,
}
COMMANDS["completion"] = completion_command(COMMANDS)

VARIABLE = "HF_HUB_OFFLINE"
WAITING = "OMP_WAIT_POLICY"
"""How threads on a CPU wait for each other. By OpenMP's default they spin: where other programs want the cores, or a
container has fewer than its machine, they take the time from the thread that they wait for. A chunk of the packaged
policy took 2.5 s in the place of 0.05 beside two busy programs (`benchmarks/busy_threads.py`)."""


class _VisibleLogs(logging.Formatter):
    """Log records as a terminal may show them."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault(WAITING, "PASSIVE")  # read when PyTorch is imported, which comes later
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal in GBK or Latin-1 cannot write "π₀.₅"
    if logging.lastResort is not None:  # what prints records where nobody has set up logging
        logging.lastResort.setFormatter(_VisibleLogs())
    try:
        with sigterm_as_interrupt():
            code = _dispatch(words)
            sys.stdout.flush()  # here, where a full disk behind `>` can still be told
            return code
    except UserError as error:
        tell(f"error: {error.render()}", aside=True)
        return 2
    except KeyboardInterrupt:
        tell("\nInterrupted.", aside=True)
        return INTERRUPTED
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "pi05":
            raise
        tell(f"error: {broken_installation(error).render()}", aside=True)
        return 2
    except (OSError, MemoryError, RuntimeError) as refusal:  # the last net: what knew more about it has not caught it
        if isinstance(refusal, RuntimeError) and not is_out_of_memory(refusal):
            if (hint := gpu_hint(refusal)) is not None:  # a fault; what to look at next stands under its traceback
                refusal.add_note(hint)
            raise
        return _end_refused(" ".join(["pi05", *words[:1]]), refusal)


def _end_refused(command: str, refusal: OSError | MemoryError | RuntimeError) -> int:
    """Return the exit code for what the system refused, after telling it.

    `pi05 train --help | head`: the reader has gone, and so has the reason to print.
    """
    if not isinstance(refusal, BrokenPipeError):
        tell(f"error: {refused(f'go on with {command}', None, refusal).render()}", aside=True)
    try:
        sys.stdout.flush()
    except OSError:  # what Python holds back for it would be refused once more at the very end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if isinstance(refusal, BrokenPipeError) else 2


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        tell(overview())
        return 0
    if words[0] in ("-V", "--version"):
        tell(f"pi05 {pi05.__version__}")
        return 0
    name, arguments = words[0], words[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        remedy = f"did you mean pi05 {near[0]}?" if near else "pi05 --help lists the commands there are"
        raise ConfigError(f"there is no command {name}", remedy=remedy)
    command = COMMANDS[name]
    if "-h" in arguments or "--help" in arguments:
        tell(command_help(name))
        return 0
    if OFFLINE in command.extra:
        arguments, offline = take_offline(arguments)
        with _nothing_sent(offline):
            return command.run(arguments)
    return command.run(arguments)


def take_offline(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the arguments without `--offline`, and whether it was given. Raises ConfigError for a strange value."""
    rest, offline = [], False
    for word in arguments:
        name, equals, value = word.partition("=")
        if name == f"--{OFFLINE.path}":
            offline = bool(parse_value(bool, value if equals else None, OFFLINE.path))
        else:
            rest.append(word)
    return rest, offline


@contextmanager
def _nothing_sent(offline: bool) -> Iterator[None]:
    """Let the hub's own variable say so while a command runs: its client and every process below follow it."""
    before = os.environ.get(VARIABLE)
    if offline:
        os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        if offline and before is None:
            del os.environ[VARIABLE]
        elif offline:
            os.environ[VARIABLE] = str(before)


def overview() -> str:
    """Return what `pi05 --help` prints."""
    lines = ["pi05: fine-tune π₀.₅ on your own demonstrations", "", "usage: pi05 COMMAND [flags]", ""]
    lines += [f"  {name:10} {command.summary}" for name, command in COMMANDS.items()]
    lines += ["", "pi05 COMMAND --help lists a command's flags."]
    return "\n".join(lines)


def command_help(name: str) -> str:
    """Return what `pi05 NAME --help` prints."""
    command = COMMANDS[name]
    width = max(40, min(100, shutil.get_terminal_size().columns))
    parts = [f"{command.summary}\n\nusage: {command.usage}", help_text(command.settings, command.extra, width)]
    parts.append(spellings_text(command.spellings(), width))
    return "\n\n".join(part for part in parts if part)
