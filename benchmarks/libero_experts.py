"""Measure how often the scripted experts of LIBERO succeed, from random starts and with the mishaps of a collection.

With --replay, the actions of every success are repeated blind from where it began, as `pi05 replay` does it.

Nothing is rendered. Success is the benchmark's own test, within the steps that openpi's protocol allows.

    python benchmarks/libero_experts.py --suites libero_object --episodes 20
    python benchmarks/libero_experts.py --suites libero_spatial libero_goal --episodes 10 --first-seed 1000

Tasks without an expert are listed as such. Every episode is kept as it ends; the same command goes on after a stop, and
adds what is missing. Needs LIBERO (docs/libero.md). The result goes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from pi05.errors import ConfigError
from pi05.eval.replay import repeat
from pi05.files import parse_object, write_json
from pi05.machine import machine_info
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import close_environment, expert_maker
from pi05.sim.episodes import Attempt, attempt
from pi05.sim.libero.tasks import tasks_of
from pi05.sim.protocol import Environment
from pi05.sim.replay_file import ReplayRow


def main() -> None:
    """Parse the arguments, make what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", nargs="+", default=["libero_object", "libero_spatial", "libero_goal"])
    parser.add_argument("--episodes", type=int, default=20, help="of each task")
    parser.add_argument("--first-seed", type=int, default=10_000)
    parser.add_argument("--tasks", nargs="*", default=[], help="words in the names of the tasks to run")
    default = Path(__file__).parent / "results" / f"libero_experts_{date.today().isoformat()}.json"
    parser.add_argument("--replay", action="store_true", help="repeat the actions of every new success, too")
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()
    result: dict[str, Any] = parse_object(arguments.output) if arguments.output.is_file() else {"episodes": []}
    result |= {"date": date.today().isoformat(), "machine": machine_info(), "versions": versions()}
    for suite in arguments.suites:
        for task in tasks_of(suite):
            if not arguments.tasks or any(word in task.name for word in arguments.tasks):
                seeds = range(arguments.first_seed, arguments.first_seed + arguments.episodes)
                measure(result, suite, task.name, seeds, arguments.output, arguments.replay)
    print(table(result))


def versions() -> dict[str, str]:
    """Return the versions that the rates depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("hf-libero", "robosuite", "mujoco", "numpy")} | {
        "python": platform.python_version()
    }


def measure(result: dict[str, Any], suite: str, task: str, seeds: range, output: Path, replay: bool) -> None:
    """Add the episodes of one task that are missing."""
    done = {episode["seed"] for episode in result["episodes"] if episode["task"] == task}
    missing = [seed for seed in seeds if seed not in done]
    if not missing:
        return
    try:
        environment, expert = expert_maker(DemonstrationChoice(env="libero", suite=suite, tasks=(task,)))()  # type: ignore[arg-type]
    except ConfigError as error:
        result.setdefault("without an expert", {})[f"{suite}/{task}"] = error.problem
        write_json(output, result)
        return
    try:
        for seed in missing:
            started = time.process_time()
            shown = attempt(environment, expert, seed, task, look=False)
            result["episodes"].append(
                {
                    "suite": suite,
                    "task": task,
                    "seed": seed,
                    "success": shown.success,
                    "steps": len(shown.steps),
                    "cpu_s": round(time.process_time() - started, 2),
                }
            )
            if replay and shown.success:
                result["episodes"][-1]["replayed"] = replayed(environment, shown)
            result["tasks"] = summary(result["episodes"])
            write_json(output, result)
            came = "success" if shown.success else "failure"
            print(f"{suite} {task} seed {seed}: {came}, {len(shown.steps)} steps", flush=True)
    finally:
        close_environment(environment)


def replayed(environment: Environment, shown: Attempt) -> dict[str, bool]:
    """Return whether the actions that the arm got succeed again from the same start, and whether the labels do."""
    executed = np.stack([step.executed for step in shown.steps])
    labels = np.stack([step.action for step in shown.steps])
    row = ReplayRow(shown.task, shown.seed, shown.start, executed)
    return {"executed": repeat(environment, row, executed), "labels": repeat(environment, row, labels)}


def summary(episodes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return successes, episodes, mean steps of successes and CPU seconds per episode, by task."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(f"{episode['suite']}/{episode['task']}" for episode in episodes):
        own = [episode for episode in episodes if f"{episode['suite']}/{episode['task']}" == name]
        won = [episode["steps"] for episode in own if episode["success"]]
        again = [episode["replayed"] for episode in own if "replayed" in episode]
        found[name] = {
            "successes": len(won),
            "episodes": len(own),
            "mean_steps": round(sum(won) / len(won), 1) if won else None,
            "cpu_s_per_episode": round(sum(episode["cpu_s"] for episode in own) / len(own), 1),
            "replayed": len(again),
            "replayed_as_executed": sum(episode["executed"] for episode in again),
            "replayed_by_labels": sum(episode["labels"] for episode in again),
        }
    return found


def table(result: dict[str, Any]) -> str:
    """Return the rates as text."""
    lines = []
    for name, row in result.get("tasks", {}).items():
        lines.append(f"{row['successes']:4} of {row['episodes']:4}  {row['mean_steps']} steps  {name}")
    return "\n".join([*lines, *(f"no expert     {name}" for name in result.get("without an expert", {}))])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
