"""What the demonstrations have in common: a folder, stages that are announced and timed, numbers stored as they are.

    collect demonstrations → statistics → fine-tune pi05-tiny → evaluate → report

Everything calls public functions; nothing is special-cased. Leaves out which simulator, and how much of everything
(`tabletop.py`, `libero.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pi05
from pi05.checkpoint.load import read_config
from pi05.checkpoint.locate import locate
from pi05.data.lerobot.reader import Dataset
from pi05.data.statistics import compute_statistics
from pi05.demo.goals import SuccessGoal, render_goals
from pi05.errors import tell
from pi05.eval.demo_report import Section, demo_page
from pi05.eval.report import fresh_folder
from pi05.files import write_atomic, write_json
from pi05.machine import machine_info
from pi05.train.config import TrainConfig
from pi05.train.records.durations import duration


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demonstration measured."""

    folder: Path
    goals: tuple[SuccessGoal, ...]
    stages: dict[str, float]
    """Seconds of wall time by stage."""

    @property
    def met(self) -> bool:
        """Whether every goal is met."""
        return all(goal.met for goal in self.goals)


@dataclass
class Stages:
    """Announces stages and takes their time."""

    total: int
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        tell(f"\n[{len(self.seconds) + 1}/{self.total}] {name}", at_once=True)
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started
        tell(f"    done in {duration(self.seconds[name])}", at_once=True)

    def render(self) -> str:
        """Return the stages with their shares as a table."""
        total = sum(self.seconds.values())
        rows = [f"  {name:<48}{duration(s):>14}{s / total:>7.0%}" for name, s in self.seconds.items()]
        return "\n".join([*rows, f"  {'all':<48}{duration(total):>14}"])


def open_folder(wanted: Path) -> Path:
    """Return an empty folder: the wanted one, or beside it the next number that is free."""
    if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        folder = fresh_folder(wanted.parent, wanted.name, first=2)
        tell(f"{wanted} holds something already and is left as it is")
        return folder
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def describe_data(root: Path, base: Path) -> str:
    """Return what the data set holds and the true statistics of its actions."""
    dataset = Dataset(root)
    horizon = read_config(locate(base)).horizon
    statistics = compute_statistics(cast(Any, dataset), range(dataset.num_episodes), horizon)
    lines = [
        f"  {dataset.num_episodes} episodes, {dataset.num_frames:,} frames at {dataset.fps:g} Hz, "
        f"{len(dataset.tasks)} instructions such as {dataset.tasks[0]!r}",
        f"  {'action':<12}{'q01':>10}{'q99':>10}{'mean':>10}{'std':>10}",
    ]
    columns = [statistics.action.value(name) for name in ("q01", "q99", "mean", "std")]
    for i, name in enumerate(dataset.action_names):
        lines.append(f"  {name:<12}" + "".join(f"{column[i]:>10.3f}" for column in columns))
    return "\n".join([*lines, *(f"  warning: {warning}" for warning in statistics.warnings)])


def finish(
    result: DemoResult,
    config: TrainConfig,
    settings: dict[str, Any],
    sections: Sequence[Section],
    pages: dict[str, str],
    heeded: str | None,
) -> DemoResult:
    """Write demo.json and index.html, print times and goals, and return the result.

    `settings` are what the demonstration was made with: `demonstrations` and `seed` among them.
    """
    total = sum(result.stages.values())
    summary: dict[str, Any] = {
        "format": "pi05-demo",
        "format_version": 1,
        "pi05_version": pi05.__version__,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        **settings,
        "steps": config.steps,
        "samples": config.steps * config.samples_per_step(),
        "goals": [goal.to_dict() for goal in result.goals],
        "met": result.met,
        "stages": [{"name": n, "seconds": s, "share": s / total} for n, s in result.stages.items()],
        "seconds": total,
        "machine": machine_info(),
    }
    write_json(result.folder / "demo.json", summary)
    rates = [(goal.rate, goal.limit) for goal in result.goals]
    page = demo_page(summary, rates, sections, pages, heeded, result.folder)
    write_atomic(result.folder / "index.html", page.encode())
    return result


def tell_verdict(result: DemoResult, stages: Stages) -> None:
    """Print where the time went, and every goal with what was measured."""
    tell(f"\nTime\n{stages.render()}\n\n{render_goals(result.goals)}\n\nreport: {result.folder / 'index.html'}")
