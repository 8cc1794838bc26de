"""One evaluation from its settings to its folder: load the policy, check that it fits, roll out, write what came of it.

    policy → places → rules → does it fit? → folder → episodes, block by block → report

Leaves out how episodes are carried out (`rollout.py`, `places/`), what is kept meanwhile (`records.py`), how processes
share them (`company.py`), and what the files look like (`result.py`, `report.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pi05.data.robot.control_rate import same_rate
from pi05.errors import EvaluationError, tell
from pi05.eval import records
from pi05.eval.chosen_policy import load_policy, require_fit
from pi05.eval.company import Company, launched
from pi05.eval.config import EvalConfig
from pi05.eval.episode import EpisodeResult, Spent
from pi05.eval.film import Gallery
from pi05.eval.places.here import Places, PlacesHere
from pi05.eval.places.processes import PlacesInProcesses
from pi05.eval.progress import EpisodeProgress
from pi05.eval.report import open_folder, write_evaluation
from pi05.eval.result import EvalResult
from pi05.eval.rollout import Ended, Rollout
from pi05.eval.rules import Rules, rules_of
from pi05.eval.seen import note_seen, read_seen
from pi05.eval.stopping import narrow_enough
from pi05.machine import machine_info
from pi05.policy import Policy
from pi05.sim.environments import environment_maker
from pi05.sim.libero.config import CONTROL_RATE
from pi05.sim.protocol import Environment
from pi05.waits import waiting

MOST_ERRORS = 10
"""Episodes that end as errors, one after another, at which an evaluation gives up; each may have taken --timeout_s."""


def evaluate_policy(
    config: EvalConfig,
    *,
    policy: Policy | None = None,
    make_environment: Callable[[], Environment] | None = None,
    console: bool = True,
) -> EvalResult:
    """Roll out the policy, write results.json and report.html, and return the result.

    `policy` replaces the one that `config.policy.path` names, `make_environment` the simulator. Raises EvaluationError
    when the policy does not fit the environment, or when no episode could be carried out. Interrupted in whatever way,
    the finished episodes are kept in the folder, for `config.resume`.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    rank, size = launched()
    say = tell if console and rank == 0 else lambda _: None
    if policy is None:
        with waiting("loading the policy", say):
            policy = load_policy(config)
    started = time.perf_counter()
    with _places(make_environment or environment_maker(config), config, say) as places:
        rules = rules_of(config, places.facts, policy.n_action_steps)
        require_fit(policy, places.facts, rules.n_action_steps, config.allow)
        with Company(open_folder(config, rank, size), rank, size) as company:
            folder = company.folder
            if company.first:
                _prepare(folder, config, policy, say)
            company.start()
            try:
                _carry_out(policy, places, rules, config, company, shown=console)
                company.all_finished()
            except KeyboardInterrupt:
                kept = len(records.finished(folder))
                say(f"{kept} episodes are kept in {folder}; go on with --resume --output_dir={folder}")
                raise
            result = _result(policy, places, rules, config, folder, time.perf_counter() - started)
            company.leave()
            if company.first:
                page = write_evaluation(result, folder)
                say(f"{result.render()}\nreport: {page}")
        if company.first:
            records.finish(folder)
    if not result.counted:
        raise EvaluationError(
            "no episode could be carried out: the simulator failed in each",
            found=result.errors[0].error,
            remedy=f"see {folder / 'results.json'} for every failure",
        )
    return result


def _places(
    make: Callable[[], Environment], config: EvalConfig, say: Callable[[str], None]
) -> AbstractContextManager[PlacesHere | PlacesInProcesses]:
    if config.processes == 0:
        return PlacesHere(make, config.num_envs)
    return PlacesInProcesses(make, config.processes, config.timeout_s, say)


def _prepare(folder: Path, config: EvalConfig, policy: Policy, say: Callable[[str], None]) -> None:
    """Write down what is evaluated, or check that it is what was begun here."""
    if not (folder / records.PARTIAL / records.HEADER).exists():
        records.begin(folder, config.to_dict(), policy.provenance)
        return
    records.require_same(folder, config.to_dict(), policy.provenance)
    records.forget_errors(folder)
    say(f"going on in {folder}: {len(records.finished(folder))} episodes are finished")


def _carry_out(
    policy: Policy, places: Places, rules: Rules, config: EvalConfig, company: Company, *, shown: bool
) -> None:
    """Carry out this process's part of the episodes, a block at a time where the interval decides on the end."""
    folder = company.folder
    done = records.finished(folder)
    gallery = Gallery(limit=config.films, tasks=len(rules.tasks))
    for ended in records.read(folder):
        gallery.offer(ended.film)
    rollout = Rollout(policy, places, rules, config, filmed=config.films > 0)
    rollout.on_look = lambda plan, observation: note_seen(folder, policy.processor, plan, observation, len(rules.tasks))
    blocks, failed = rules.blocks(), list[str | None]()
    shown_total = len(company.share(range(rules.episodes))) if rules.half_width is None else None
    with (
        records.Records(folder, company.rank) as kept,
        EpisodeProgress(shown_total, enabled=shown and company.first) as progress,
    ):

        def take(ended: Ended) -> None:
            kept.append(ended, film=gallery.offer(ended.film))
            progress.advance(ended.result)
            company.require_all()
            failed.append(ended.result.error)
            if len(failed) >= MOST_ERRORS and all(failed[-MOST_ERRORS:]):
                raise _broken(failed[-1])

        for episode in company.share(sorted(done)):
            progress.advance(done[episode])
        for block in blocks:
            rollout.carry_out([episode for episode in company.share(block) if episode not in done], take)
            if rules.half_width is not None:
                company.wait(partial(_all_finished, folder, block))
                if narrow_enough(_until(folder, block.stop), rules.half_width):
                    return


def _broken(error: str | None) -> EvaluationError:
    return EvaluationError(
        f"the simulator failed in {MOST_ERRORS} episodes, one after another, each time twice",
        found=error,
        remedy="repair it, then go on with --resume: these are carried out again, and finished episodes are kept",
    )


def _all_finished(folder: Path, block: range) -> bool:
    return records.finished(folder).keys() >= set(block)


def _until(folder: Path, stop: int) -> list[EpisodeResult]:
    """Return the episodes before `stop`: what was carried out beyond, in a process that is ahead, is not looked at."""
    return [result for index, result in records.finished(folder).items() if index < stop]


def _result(
    policy: Policy,
    places: PlacesHere | PlacesInProcesses,
    rules: Rules,
    config: EvalConfig,
    folder: Path,
    wall_s: float,
) -> EvalResult:
    """Put together what all processes have kept."""
    gallery, spent, episodes = Gallery(limit=config.films, tasks=len(rules.tasks)), Spent(), list[EpisodeResult]()
    for ended in records.read(folder):
        episodes.append(ended.result)
        spent.add(ended.spent)
        gallery.offer(ended.film)
    return EvalResult(
        config=config.to_dict(),
        policy=policy.provenance | {"n_action_steps": rules.n_action_steps},
        environment=_about(config, places, rules, policy),
        episodes=episodes,
        machine=machine_info(),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        wall_s=wall_s,
        flagged=list(policy.flagged),
        output_dir=str(folder),
        rules=rules.to_dict(),
        spent=spent,
        memory_bytes=places.memory_bytes if isinstance(places, PlacesInProcesses) else None,
        seen=read_seen(folder),
        gallery=gallery,
    )


def _about(config: EvalConfig, places: Places, rules: Rules, policy: Policy) -> dict[str, Any]:
    """Return what the result says of the environment, with what `--allow` has let pass."""
    notes = list(places.facts.notes)
    if policy.fps is not None and not same_rate(policy.fps, places.facts.fps):
        notes.append(f"the policy tells {policy.fps:g} Hz, accepted by --allow={CONTROL_RATE}")
    return {
        "name": config.env,
        "family": config.suite or config.family,
        "fps": places.facts.fps,
        "max_steps": rules.max_steps,
        "notes": notes,
    }
