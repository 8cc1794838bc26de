"""One evaluation from its settings to its folder: load the policy, check that it fits, roll out, write what came of it.

Leaves out how episodes are carried out (`rollout.py`) and what the files look like (`result.py`, `report.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import torch

from pi05.errors import EvaluationError, tell
from pi05.eval.chosen_policy import load_policy, require_fit
from pi05.eval.config import EvalConfig
from pi05.eval.film import Gallery
from pi05.eval.progress import EpisodeProgress
from pi05.eval.report import output_folder, write_evaluation
from pi05.eval.result import EvalResult
from pi05.eval.rollout import run_episodes
from pi05.machine import machine_info
from pi05.policy import Policy
from pi05.sim.environments import close_environment, environment_maker
from pi05.sim.protocol import Environment
from pi05.waits import waiting


def evaluate_policy(
    config: EvalConfig,
    *,
    policy: Policy | None = None,
    make_environment: Callable[[], Environment] | None = None,
    console: bool = True,
) -> EvalResult:
    """Roll out the policy, write results.json and report.html, and return the result.

    `policy` replaces the one that `config.policy.path` names, `make_environment` the simulator. Raises EvaluationError
    when the policy does not fit the environment, or when no episode could be carried out.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if policy is None:
        with waiting("loading the policy", tell if console else lambda _: None):
            policy = load_policy(config)
    started = time.perf_counter()
    make_environment = make_environment or environment_maker(config)
    about_environment = _check_environment(policy, make_environment(), config)
    folder = output_folder(config)
    gallery = Gallery(limit=config.films)
    with EpisodeProgress(config.episodes or 50, enabled=console) as progress:
        episodes = run_episodes(policy, make_environment, config, gallery=gallery, on_episode=progress.advance)
    result = EvalResult(
        config=config.to_dict(),
        policy=policy.provenance | {"n_action_steps": config.policy.n_action_steps or policy.n_action_steps},
        environment=about_environment,
        episodes=episodes,
        machine=machine_info(),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        wall_s=time.perf_counter() - started,
        flagged=list(policy.flagged),
        output_dir=str(folder),
        gallery=gallery,
    )
    page = write_evaluation(result, folder)
    if console:
        tell(f"{result.render()}\nreport: {page}")
    if not result.counted:
        raise EvaluationError(
            "no episode could be carried out: the simulator raised an exception in each",
            found=result.errors[0].error,
            remedy=f"see {folder / 'results.json'} for every exception",
        )
    return result


def _check_environment(policy: Policy, environment: Environment, config: EvalConfig) -> dict[str, Any]:
    """Raise EvaluationError unless the policy fits; return what the result says of the environment, and close it."""
    try:
        require_fit(policy, environment, config.policy.n_action_steps)
        return {
            "name": config.env,
            "family": config.family,
            "fps": environment.fps,
            "max_steps": environment.max_steps,
        }
    finally:
        close_environment(environment)
