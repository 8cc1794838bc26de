"""The command table. No torch is imported before a command runs, so that `--help` answers at once.

Exit codes: 0 done; 1 the demo missed a goal; 2 something that the user can put right, told without a traceback; 130
interrupted. Any other exception is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

import difflib
import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pi05
from pi05.commands import CollectConfig, DemoConfig, ExportConfig, InspectConfig, ReportConfig
from pi05.errors import ConfigError, UserError
from pi05.eval.config import EvalConfig
from pi05.export_command import run_export
from pi05.flags import help_text, overlay, parse_flags
from pi05.hub.config import PushConfig
from pi05.plan_command import SETTINGS as PLAN_SETTINGS
from pi05.plan_command import plan
from pi05.settings import Setting, from_plain
from pi05.train.config import TrainConfig
from pi05.train.interrupt import sigterm_as_interrupt
from pi05.train_command import EXTRA_FLAGS, read_command, what_was_saved

GOALS_MISSED = 1
INTERRUPTED = 130


def train(arguments: Sequence[str]) -> int:
    """Run `pi05 train`."""
    request = read_command(arguments)
    speaks = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    for notice in request.notices * speaks:
        print(f"note: {notice}", file=sys.stderr)
    if request.config.policy.push_to_hub and speaks:
        from pi05.hub.publish import check_before_training

        check_before_training(request.config)
    try:
        from pi05.train.loop import train as run

        run(request.config)
    except KeyboardInterrupt:
        if speaks:
            print(f"\nInterrupted. {what_was_saved(request.config.run_dir)}", file=sys.stderr)
        return INTERRUPTED
    if request.config.policy.push_to_hub and speaks:
        from pi05.hub.publish import publish_after_training

        publish_after_training(request.config)
    return 0


def evaluate(arguments: Sequence[str]) -> int:
    """Run `pi05 eval`."""
    config = _read(EvalConfig, arguments)
    if config.policy.path is None:
        raise ConfigError("pi05 eval needs a policy", wanted="--policy.path=RUN", remedy="name a run or a checkpoint")
    from pi05.eval.rollout import evaluate as run

    run(config)
    return 0


def collect(arguments: Sequence[str]) -> int:
    """Run `pi05 collect`."""
    config = _read(CollectConfig, arguments)
    if config.output is None:
        raise ConfigError("pi05 collect needs a place for the data set", remedy="add --output=FOLDER")
    from pi05.sim.collect import collect as run

    folder = run(config.env, config.family, config.episodes, Path(config.output), config.seed, progress=_count)
    print(f"wrote {config.episodes} demonstrations to {folder}")
    return 0


def _count(done: int, total: int) -> None:
    """Show how far a command is, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def demo(arguments: Sequence[str]) -> int:
    """Run `pi05 demo`."""
    config = _read(DemoConfig, arguments)
    from pi05.demo import run_demo

    result = run_demo(output_dir=Path(config.output_dir), seed=config.seed, threads=config.threads)
    return 0 if result.met else GOALS_MISSED


def report(arguments: Sequence[str]) -> int:
    """Run `pi05 report`."""
    flags = parse_flags(ReportConfig, arguments)
    if len(flags.words) != 1:
        raise ConfigError("pi05 report takes one run", wanted="pi05 report RUN", remedy="name the run's folder")
    from pi05.eval.report import write_run_report

    print(write_run_report(Path(flags.words[0])))
    return 0


def export(arguments: Sequence[str]) -> int:
    """Run `pi05 export`."""
    flags = parse_flags(ExportConfig, arguments)
    run_export(from_plain(ExportConfig, overlay({}, flags.values)), flags.words)
    return 0


def inspect(arguments: Sequence[str]) -> int:
    """Run `pi05 inspect`."""
    flags = parse_flags(InspectConfig, arguments)
    config = from_plain(InspectConfig, overlay({}, flags.values))
    if len(flags.words) != 1:
        raise ConfigError("pi05 inspect takes one path", wanted="pi05 inspect PATH", remedy="name a folder or a file")
    from pi05.inspection import inspect_checkpoint
    from pi05.inspection_tables import print_json, print_tables

    facts = inspect_checkpoint(Path(flags.words[0]), hash_files=config.hash)
    (print_json if config.json else print_tables)(facts)
    return 0


def push(arguments: Sequence[str]) -> int:
    """Run `pi05 push`."""
    flags = parse_flags(PushConfig, arguments)
    config = from_plain(PushConfig, overlay({}, flags.values))
    if len(flags.words) != 1:
        raise ConfigError(
            "pi05 push takes one run", wanted="pi05 push RUN --repo_id=OWNER/NAME", remedy="name the run's folder"
        )
    from pi05.hub.publish import publish

    publish(Path(flags.words[0]), config)
    return 0


def _read(cls: type[Any], arguments: Sequence[str]) -> Any:
    flags = parse_flags(cls, arguments)
    if flags.words:
        raise ConfigError(f"'{flags.words[0]}' is no flag", remedy="write settings as --name=value")
    return from_plain(cls, overlay({}, flags.values))


@dataclass(frozen=True)
class Command:
    """One line of the table."""

    summary: str
    usage: str
    run: Callable[[Sequence[str]], int]
    settings: type
    extra: tuple[Setting, ...] = field(default=())


COMMANDS = {
    "train": Command(
        "Fine-tune: full, frozen vision, expert, LoRA or QLoRA; exact resume.",
        "pi05 train [--preset=NAME] --dataset.root=DATA --policy.path=BASE [flags]",
        train,
        TrainConfig,
        EXTRA_FLAGS,
    ),
    "plan": Command(
        "Does a run fit a GPU, how fast, how long; what would fit. Needs none.",
        "pi05 plan [--gpu=rtx4090|h100|...] [--gpus=N] [training flags] [--json]",
        plan,
        TrainConfig,
        PLAN_SETTINGS,
    ),
    "eval": Command(
        "Success rate of a policy in a simulator, as a report with pictures.",
        "pi05 eval --policy.path=RUN --env=tabletop --episodes=50 [flags]",
        evaluate,
        EvalConfig,
    ),
    "export": Command(
        "Write LeRobot's, openpi's or our layout, with proof of equality.",
        "pi05 export --to=lerobot|openpi|pi05 RUN OUT [flags]\n"
        "       pi05 export --verify OUT [--source=RUN]\n"
        "       pi05 export --relocate OUT",
        export,
        ExportConfig,
    ),
    "inspect": Command(
        "What a checkpoint is: layout, sizes, cameras, units, rate, hashes.",
        "pi05 inspect PATH [--json]",
        inspect,
        InspectConfig,
    ),
    "push": Command(
        "Publish a policy on the hub or a mirror: LeRobot's layout and a card.",
        "pi05 push RUN --repo_id=OWNER/NAME [flags]",
        push,
        PushConfig,
    ),
    "collect": Command(
        "Scripted demonstrations in a simulator, as a LeRobot v3.0 data set.",
        "pi05 collect --env=tabletop --episodes=100 --output=FOLDER [flags]",
        collect,
        CollectConfig,
    ),
    "demo": Command(
        "Collect, fine-tune, evaluate, report: in a simulator, on a CPU.",
        "pi05 demo [flags]",
        demo,
        DemoConfig,
    ),
    "report": Command(
        "One HTML file about a run: curves, held-out error, what was seen.",
        "pi05 report RUN",
        report,
        ReportConfig,
    ),
}

LATER = {
    "doctor": "Is this machine able to train, evaluate, serve?",
    "fetch": "Bring base weights, tokenizer and data sets to local folders.",
    "check": "Lint a data set against the silent killers.",
    "serve": "Policy server, openpi's websocket protocol.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal in GBK or Latin-1 cannot write "π₀.₅"
    try:
        with sigterm_as_interrupt():
            return _dispatch(words)
    except UserError as error:
        print(f"error: {error.render()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `pi05 train --help | head`: the reader has gone, and so has the reason to print
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"pi05 {pi05.__version__}")
        return 0
    name, arguments = words[0], words[1:]
    if name in LATER:
        raise ConfigError(f"pi05 {name} is not in this version yet", remedy="pi05 --help lists the commands there are")
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        remedy = f"did you mean pi05 {near[0]}?" if near else "pi05 --help lists the commands there are"
        raise ConfigError(f"there is no command {name}", remedy=remedy)
    command = COMMANDS[name]
    if "-h" in arguments or "--help" in arguments:
        print(command_help(name))
        return 0
    return command.run(arguments)


def overview() -> str:
    """Return what `pi05 --help` prints."""
    lines = ["pi05: fine-tune π₀.₅ on your own demonstrations", "", "usage: pi05 COMMAND [flags]", ""]
    lines += [f"  {name:8} {command.summary}" for name, command in COMMANDS.items()]
    lines += ["", "not yet in this version:"]
    lines += [f"  {name:8} {summary}" for name, summary in LATER.items()]
    lines += ["", "pi05 COMMAND --help lists a command's flags."]
    return "\n".join(lines)


def command_help(name: str) -> str:
    """Return what `pi05 NAME --help` prints."""
    command = COMMANDS[name]
    width = max(40, min(100, shutil.get_terminal_size().columns))
    parts = [f"{command.summary}\n\nusage: {command.usage}", help_text(command.settings, command.extra, width)]
    return "\n\n".join(part for part in parts if part)
