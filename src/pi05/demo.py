"""The chain behind `pi05 demo`: what a lab does with its own robot, on an embedded simulator and in minutes.

    collect demonstrations → statistics → fine-tune pi05-tiny → evaluate → report

The base has not seen the objects and words of the demonstrations. It is evaluated before fine-tuning, the result is
evaluated on layouts that nobody has seen, and once more with swapped instructions, which shows whether it listens. The
numbers are printed and stored whatever they are. Everything here calls public functions; nothing is special-cased.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast

import pi05
from pi05 import presets
from pi05.checkpoint.load import read_config
from pi05.checkpoint.locate import locate
from pi05.data.lerobot.reader import Dataset
from pi05.data.statistics import compute_statistics
from pi05.errors import tell
from pi05.eval.config import EvalConfig, EvalPolicyConfig
from pi05.eval.demo_report import demo_page
from pi05.eval.evaluate import evaluate_policy
from pi05.eval.report import fresh_folder
from pi05.eval.result import EvalResult, SuccessRate
from pi05.files import write_atomic, write_json
from pi05.machine import machine_info
from pi05.pages.run import write_run_report
from pi05.sim.collect import collect_demonstrations
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import expert_maker
from pi05.terminal import Counter
from pi05.train.config import TrainConfig
from pi05.train.loop import train
from pi05.train.records.durations import duration

FAMILY: Literal["demo"] = "demo"
"""Objects and instructions that pi05-tiny has not seen."""


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """How much of everything; the defaults fit ten minutes on two CPU cores."""

    demonstrations: int = 1_000
    episodes: int = 50
    steps: int | None = None
    """Training steps; those of the preset `demo` when not given."""
    base: Path = presets.TINY_BASE


@dataclass(frozen=True, kw_only=True)
class SuccessGoal:
    """What a success rate should be, and what it is."""

    name: str
    rate: SuccessRate
    limit: float
    at_least: bool
    strict: bool = False

    @property
    def met(self) -> bool:
        """Whether the rate keeps to its limit; a rate without episodes does not."""
        value = self.rate.value
        if value is None:
            return False
        if self.at_least:
            return value >= self.limit
        return value < self.limit if self.strict else value <= self.limit

    @property
    def wanted(self) -> str:
        """The limit in words."""
        word = "at least" if self.at_least else "under" if self.strict else "at most"
        return f"{word} {self.limit:.0%}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"name": self.name, **self.rate.to_dict(), "goal": self.wanted, "met": self.met}


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
class _Stages:
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


def run_demo(
    output_dir: str | Path, seed: int = 0, threads: int | None = None, *, plan: DemoPlan | None = None
) -> DemoResult:
    """Run the whole chain in `output_dir`, or where that holds something in the next free `output_dir-N`.

    The folder ends up with index.html and demo.json. Missed goals are no exception: see `DemoResult.met`.
    """
    plan = plan or DemoPlan()
    folder = _open_folder(Path(output_dir))
    tell(f"pi05 demo in {folder}: everything it makes is there, index.html shows it")
    stages = _Stages(total=7)
    data, run = folder / "data", folder / "run"
    with stages.stage(f"collect {plan.demonstrations} demonstrations"):
        make = expert_maker(DemonstrationChoice(family=FAMILY))
        with Counter(plan.demonstrations, "demonstrations") as counter:
            collect_demonstrations(make, plan.demonstrations, data, seed, progress=counter.advance)
    with stages.stage("statistics of the demonstrations"):
        tell(_describe_data(data, plan))
    with stages.stage("evaluate the base before fine-tuning"):
        before = evaluate_policy(_evaluation(plan, plan.base, folder / "eval-base", seed, threads))
    config = _training(plan, data, run, folder / "frames", seed, threads)
    with stages.stage("fine-tune"):
        trained = train(config)
    with stages.stage(f"evaluate on {plan.episodes} unseen layouts"):
        after = evaluate_policy(_evaluation(plan, trained.last_checkpoint, folder / "eval", seed, threads))
    with stages.stage("evaluate with swapped instructions"):
        swap = _evaluation(plan, trained.last_checkpoint, folder / "eval-swapped", seed, threads)
        swapped = evaluate_policy(replace(swap, swap_instruction=True))
    goals = (
        SuccessGoal(name="fine-tuned, on unseen layouts", rate=after.success, limit=0.9, at_least=True),
        SuccessGoal(name="base, before fine-tuning", rate=before.success, limit=0.2, at_least=False),
        SuccessGoal(
            name="fine-tuned, asked for something else: original goal",
            rate=swapped.success,
            limit=0.2,
            at_least=False,
            strict=True,
        ),
    )
    with stages.stage("report of the run"):
        write_run_report(run)
    result = DemoResult(folder=folder, goals=goals, stages=stages.seconds)
    _write(result, config, plan, seed, (before, after, swapped))
    tell(f"\nTime\n{stages.render()}\n\n{_render_goals(goals)}\n\nreport: {folder / 'index.html'}")
    return result


def _open_folder(wanted: Path) -> Path:
    """Return an empty folder: the wanted one, or beside it the next number that is free."""
    if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        folder = fresh_folder(wanted.parent, wanted.name, first=2)
        tell(f"{wanted} holds something already and is left as it is")
        return folder
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def _describe_data(root: Path, plan: DemoPlan) -> str:
    """Return what the data set holds and the true statistics of its actions."""
    dataset = Dataset(root)
    horizon = read_config(locate(plan.base)).horizon
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


def _evaluation(plan: DemoPlan, checkpoint: Path, output: Path, seed: int, threads: int | None) -> EvalConfig:
    return EvalConfig(
        policy=EvalPolicyConfig(path=str(checkpoint)),
        family=FAMILY,
        episodes=plan.episodes,
        num_envs=plan.episodes,
        seed=seed,
        output_dir=str(output),
        threads=threads,
    )


def _training(plan: DemoPlan, data: Path, run: Path, frames: Path, seed: int, threads: int | None) -> TrainConfig:
    preset = presets.demo()
    return replace(
        preset,
        policy=replace(preset.policy, path=str(plan.base)),
        dataset=replace(preset.dataset, root=str(data), cache_dir=str(frames)),
        output_dir=str(run),
        steps=plan.steps or preset.steps,
        seed=seed,
        threads=threads,
    )


def _render_goals(goals: tuple[SuccessGoal, ...]) -> str:
    """Return measured numbers and goals, and the verdict."""
    rows = ["Goals"]
    for goal in goals:
        rows.append(
            f"  {'met   ' if goal.met else 'MISSED'}  {goal.name} ({goal.wanted})\n          {goal.rate.render()}"
        )
    missed = [goal.name for goal in goals if not goal.met]
    rows.append(
        "all goals are met" if not missed else f"MISSED {len(missed)} of {len(goals)} goals: {'; '.join(missed)}"
    )
    return "\n".join(rows)


def _write(
    result: DemoResult,
    config: TrainConfig,
    plan: DemoPlan,
    seed: int,
    evaluations: tuple[EvalResult, EvalResult, EvalResult],
) -> None:
    """Write demo.json and index.html."""
    total = sum(result.stages.values())
    summary: dict[str, Any] = {
        "format": "pi05-demo",
        "format_version": 1,
        "pi05_version": pi05.__version__,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seed": seed,
        "demonstrations": plan.demonstrations,
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
    page = demo_page(summary, rates, evaluations, result.folder)
    write_atomic(result.folder / "index.html", page.encode())
