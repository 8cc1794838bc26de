"""The chain behind `pi05 demo --env=libero`: three tasks of LIBERO in one small policy, on two CPU cores.

    collect demonstrations → statistics → fine-tune pi05-tiny → evaluate, blind and asked for something else → report

Success on one task proves little here, since a task's object hardly moves between the benchmark's initial states. So
there are several tasks in one policy; in a third of the demonstrations the scene of one task is asked for the object of
another one, so that a scene does not tell what is wanted; and the finished policy is evaluated with black pictures, and
asked for another object of the scene, measured by which object moves. Demonstrations begin in layouts drawn anew; the
evaluation begins in the benchmark's own initial states, which nobody was trained on.

An action is held for two control steps (10 Hz): half the pictures to draw, and the horizon of pi05-tiny is a second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pi05 import presets
from pi05.demo.chain import DemoResult, Stages, describe_data, finish, open_folder, tell_verdict
from pi05.demo.fine_tune import fine_tune
from pi05.demo.goals import SuccessGoal
from pi05.errors import tell
from pi05.eval.config import EvalConfig
from pi05.eval.demo_report import Section
from pi05.eval.episode import EpisodeResult
from pi05.eval.evaluate import evaluate_policy
from pi05.eval.result import EvalResult, SuccessRate
from pi05.pages.run import write_run_report
from pi05.policy_choice import ChosenPolicy
from pi05.settings.schema import to_plain
from pi05.sim.collect_tasks import collect_tasks
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import expert_maker
from pi05.sim.libero.config import Suite
from pi05.sim.libero.environment import IMAGES
from pi05.sim.libero.tasks import choose_tasks
from pi05.terminal import Counter
from pi05.train.config import TrainConfig
from pi05.train.loop import train

OBJECTS = ("salad_dressing", "alphabet_soup", "ketchup")
"""Each lies in the scene of at least one of the others."""
TASKS = tuple(f"pick_up_the_{name}_and_place_it_in_the_basket" for name in OBJECTS)
BASKET = "basket"
NOTHING = 1e-12
"""A learning rate."""
PAGES = {
    "run/report.html": "the training run: curves, what the model saw, configuration",
    "eval/report.html": "the fine-tuned policy in the benchmark's initial states",
    "eval-base/report.html": "the base before fine-tuning",
    "eval-blank/report.html": "the fine-tuned policy with black pictures",
    "eval-swapped/report.html": "the fine-tuned policy, asked for another object of the scene",
}


@dataclass(frozen=True, kw_only=True)
class LiberoPlan:
    """How much of everything; the defaults took 73 minutes on two fast CPU cores, and take twice that on slow ones."""

    suite: Suite = "libero_object"
    tasks: tuple[str, ...] = TASKS
    demonstrations_per_task: int = 130
    mixed_share: float = 1 / 3
    """Of the demonstrations in one task's scene, those that were asked for the object of another one."""
    hold: int = 2
    image_size: int = 128
    steps: int = 13_000
    learning_rate: float | None = None
    """The preset's when not given."""
    n_action_steps: int = 5
    episodes_per_task: int = 50
    control_episodes_per_task: int = 10
    """Of the base, with black pictures, and with another instruction."""
    workers: int = 2
    base: Path = presets.TINY_BASE
    data: Path | None = None
    """Demonstrations that an earlier chain has collected by the same plan; None: they are collected."""

    def demonstrations(self, seed: int) -> DemonstrationChoice:
        """Return the simulator as demonstrations are collected in it."""
        return DemonstrationChoice(
            env="libero",
            suite=self.suite,
            tasks=self.tasks,
            hold=self.hold,
            image_size=self.image_size,
            mixed_goals=len(self.tasks) > 1,
            mixed_share=self.mixed_share if len(self.tasks) > 1 else None,
            seed=seed,
        )


def run_libero_demo(
    output_dir: str | Path, seed: int = 0, threads: int | None = None, *, plan: LiberoPlan | None = None
) -> DemoResult:
    """Run the whole chain in `output_dir`, or where that holds something in the next free `output_dir-N`.

    The folder ends up with index.html and demo.json. Missed goals are no exception: see `DemoResult.met`.
    """
    plan = plan or LiberoPlan()
    folder = open_folder(Path(output_dir))
    tell(f"pi05 demo in {folder}: everything it makes is there, index.html shows it")
    stages = Stages(total=8 if plan.data is None else 7)
    data, run = plan.data or folder / "data", folder / "run"
    if plan.data is None:
        with stages.stage(f"collect {plan.demonstrations_per_task} demonstrations of each of {len(plan.tasks)} tasks"):
            _collect(plan, data, seed)
    with stages.stage("statistics of the demonstrations"):
        tell(describe_data(data, plan.base))
    few = replace(plan, episodes_per_task=plan.control_episodes_per_task)
    config = training(plan, data, run, folder / "frames", seed, threads)
    with stages.stage("evaluate the base before fine-tuning"):
        base = train(untrained(config, folder / "base")).last_checkpoint
        before = evaluate_policy(evaluation(few, base, folder / "eval-base", seed, threads))
    with stages.stage("fine-tune"):
        checkpoint = fine_tune(config).last_checkpoint
    with stages.stage(f"evaluate in {plan.episodes_per_task} initial states of each task"):
        after = evaluate_policy(evaluation(plan, checkpoint, folder / "eval", seed, threads))
    with stages.stage("evaluate with black pictures"):
        blind = evaluation(few, checkpoint, folder / "eval-blank", seed, threads)
        blank = evaluate_policy(replace(blind, blank_pictures=True))
    with stages.stage("evaluate with another object of the scene asked for"):
        swap = evaluation(few, checkpoint, folder / "eval-swapped", seed, threads)
        swapped = evaluate_policy(replace(swap, swap_instruction=True))
    with stages.stage("report of the run"):
        write_run_report(run)
    result = DemoResult(folder=folder, goals=goals_of(plan, before, after, blank, swapped), stages=stages.seconds)
    sections = (
        Section("After fine-tuning", after, "success"),
        Section("Where it still fails", after, "failure"),
        Section("The base before fine-tuning", before, "failure"),
        Section("With black pictures", blank, "failure"),
        Section("Asked for another object of the scene", swapped, "failure"),
    )
    heeded = None if swapped.swapped_success is None else swapped.swapped_success.render()
    settings = {"demonstrations": plan.demonstrations_per_task * len(plan.tasks), "seed": seed, "plan": told(plan)}
    finish(result, config, settings, sections, PAGES, heeded)
    tell_verdict(result, stages)
    return result


def _collect(plan: LiberoPlan, data: Path, seed: int) -> None:
    choice = plan.demonstrations(seed)
    collected = collect_tasks(
        expert_maker(choice),
        plan.demonstrations_per_task,
        data,
        choice.first_seed,
        plan.workers,
        {name: value for name, value in to_plain(choice).items() if name != "seed"},
        lambda total: Counter(total, "demonstrations"),
    )
    for task, successes, attempts in collected.yields:
        tell(f"  {successes} of {attempts} attempts succeeded: {task}")


def told(plan: LiberoPlan) -> dict[str, Any]:
    """Return a plan as plain data."""
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in plan.__dict__.items()
    }


def evaluation(plan: LiberoPlan, checkpoint: Path, output: Path, seed: int, threads: int | None) -> EvalConfig:
    """Return the evaluation of a checkpoint in the benchmark's initial states of the plan's tasks."""
    return EvalConfig(
        policy=ChosenPolicy(path=str(checkpoint), n_action_steps=plan.n_action_steps),
        env="libero",
        suite=plan.suite,
        tasks=plan.tasks,
        hold=plan.hold,
        episodes_per_task=plan.episodes_per_task,
        workers=plan.workers,
        seed=seed,
        output_dir=str(output),
        threads=threads,
    )


def training(plan: LiberoPlan, data: Path, run: Path, frames: Path, seed: int, threads: int | None) -> TrainConfig:
    """Return the training: the preset `demo` on these demonstrations."""
    preset = presets.demo()
    rate = plan.learning_rate or preset.policy.optimizer_lr
    return replace(
        preset,
        policy=replace(preset.policy, path=str(plan.base), optimizer_lr=rate, n_action_steps=plan.n_action_steps),
        dataset=replace(preset.dataset, root=str(data), cache_dir=str(frames)),
        rename_map=dict(zip(IMAGES, ("scene", "left_wrist"), strict=True)),
        output_dir=str(run),
        steps=plan.steps,
        save_freq=max(1, plan.steps // 4),
        eval_steps=max(1, plan.steps // 8),
        seed=seed,
        threads=threads,
    )


def untrained(config: TrainConfig, run: Path) -> TrainConfig:
    """Return a training that changes nothing: the base with the cameras, actions and statistics of this robot.

    The packaged base has those of another robot, and could not act here at all.
    """
    policy = replace(config.policy, optimizer_lr=NOTHING, scheduler_decay_lr=NOTHING, scheduler_warmup_steps=0)
    return replace(
        config,
        policy=policy,
        output_dir=str(run),
        steps=1,
        save_freq=1,
        eval_steps=0,
        ema=replace(config.ema, enable=False),
    )


def goals_of(
    plan: LiberoPlan, before: EvalResult, after: EvalResult, blank: EvalResult, swapped: EvalResult
) -> tuple[SuccessGoal, ...]:
    """Return what should hold: every task for itself, and the controls."""
    rates = after.by_instruction
    instructions = [task.instruction for task in choose_tasks(plan.suite, plan.tasks)]
    none = SuccessRate(successes=0, trials=0)
    return (
        *(SuccessGoal(name=text, rate=rates.get(text, none), limit=0.8, at_least=True) for text in instructions),
        SuccessGoal(name="base, before fine-tuning", rate=before.success, limit=0.1, at_least=False, strict=True),
        SuccessGoal(name="with black pictures", rate=blank.success, limit=0.1, at_least=False, strict=True),
        SuccessGoal(
            name="asked for another object of the scene: moves that one, and it alone",
            rate=SuccessRate(
                successes=sum(moved_what_was_asked(episode) for episode in swapped.counted),
                trials=len(swapped.counted),
            ),
            limit=0.5,
            at_least=True,
        ),
    )


def moved_what_was_asked(episode: EpisodeResult) -> bool:
    """Return whether the thing that shall be picked up lies elsewhere at the end, and nothing else that one could take.

    The basket may be pushed: it is no object of any task.
    """
    things = {name.rpartition("_")[0].replace("_", " ") for name in episode.moved or ()} - {BASKET}
    wanted = episode.asked.partition(" and place it")[0]
    return len(things) == 1 and all(wanted.endswith(f" {thing}") for thing in things)
