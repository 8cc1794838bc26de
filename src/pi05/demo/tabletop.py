"""The chain behind `pi05 demo`: what a lab does with its own robot, on an embedded simulator and in minutes.

    collect demonstrations → statistics → fine-tune pi05-tiny → evaluate → report

The base has not seen the objects and words of the demonstrations. It is evaluated before fine-tuning, the result is
evaluated on layouts that nobody has seen, and once more with swapped instructions, which shows whether it listens. The
numbers are printed and stored whatever they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pi05 import presets
from pi05.demo.chain import DemoResult, Stages, describe_data, finish, open_folder, tell_verdict
from pi05.demo.fine_tune import fine_tune
from pi05.demo.goals import SuccessGoal
from pi05.errors import tell
from pi05.eval.config import EvalConfig
from pi05.eval.demo_report import Section
from pi05.eval.evaluate import evaluate_policy
from pi05.pages.run import write_run_report
from pi05.policy_choice import ChosenPolicy
from pi05.sim.collect import collect_demonstrations
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import expert_maker
from pi05.terminal import Counter
from pi05.train.config import TrainConfig

FAMILY: Literal["demo"] = "demo"
"""Objects and instructions that pi05-tiny has not seen."""
BASE_NOTE = "It can grasp and place, but has never seen these colours and shapes, nor the words for them."
PAGES = {
    "run/report.html": "the training run: curves, what the model saw, configuration",
    "eval/report.html": "the fine-tuned policy on unseen layouts",
    "eval-base/report.html": "the base before fine-tuning",
    "eval-swapped/report.html": "the fine-tuned policy with swapped instructions",
}


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """How much of everything; the defaults fit ten minutes on two CPU cores."""

    demonstrations: int = 1_000
    episodes: int = 50
    steps: int | None = None
    """Training steps; those of the preset `demo` when not given."""
    base: Path = presets.TINY_BASE


def run_demo(
    output_dir: str | Path, seed: int = 0, threads: int | None = None, *, plan: DemoPlan | None = None
) -> DemoResult:
    """Run the whole chain in `output_dir`, or where that holds something in the next free `output_dir-N`.

    The folder ends up with index.html and demo.json. Missed goals are no exception: see `DemoResult.met`.
    """
    plan = plan or DemoPlan()
    folder = open_folder(Path(output_dir))
    tell(f"pi05 demo in {folder}: everything it makes is there, index.html shows it")
    stages = Stages(total=7)
    data, run = folder / "data", folder / "run"
    with stages.stage(f"collect {plan.demonstrations} demonstrations"):
        choice = DemonstrationChoice(family=FAMILY, seed=seed)
        with Counter(plan.demonstrations, "demonstrations") as counter:
            collect_demonstrations(
                expert_maker(choice), plan.demonstrations, data, choice.first_seed, progress=counter.advance
            )
    with stages.stage("statistics of the demonstrations"):
        tell(describe_data(data, plan.base))
    with stages.stage("evaluate the base before fine-tuning"):
        before = evaluate_policy(_evaluation(plan, plan.base, folder / "eval-base", seed, threads))
    config = _training(plan, data, run, folder / "frames", seed, threads)
    with stages.stage("fine-tune"):
        trained = fine_tune(config)
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
    sections = (
        Section("After fine-tuning", after, "success"),
        Section("Where it still fails", after, "failure"),
        Section("The base before fine-tuning", before, "failure", BASE_NOTE),
        Section("Asked for something else", swapped, "failure"),
    )
    heeded = None if swapped.swapped_success is None else swapped.swapped_success.render()
    finish(result, config, {"demonstrations": plan.demonstrations, "seed": seed}, sections, PAGES, heeded)
    tell_verdict(result, stages)
    return result


def _evaluation(plan: DemoPlan, checkpoint: Path, output: Path, seed: int, threads: int | None) -> EvalConfig:
    return EvalConfig(
        policy=ChosenPolicy(path=str(checkpoint)),
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
