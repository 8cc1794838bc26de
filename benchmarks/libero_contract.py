"""Drive LeRobot's own LIBERO environment and pi05's with the same actions, and compare states and frames.

LeRobot's side runs in its Python 3.12 environment: its `create_libero_envs`, its preprocessing, its processor step.
Each case is one episode of a task, in the benchmark's initial state of that number, under LeRobot's rules (seed
1000 + n, pictures of 360 px). After the reset, and after every ten random actions, both cameras and the state are
compared; in the end every joint of the simulator and the pose of every fixture.

    python benchmarks/libero_contract.py --lerobot-python /path/to/lerobot-env/bin/python

Prints a table and writes benchmarks/results/libero_contract_DATE.json. LeRobot's environment needs lerobot==0.6.1 and
the set that `make libero` installs; ours is the one that this runs in.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pi05.machine import machine_info
from pi05.sim.libero.environment import IMAGES, LiberoEnvironment
from pi05.sim.libero.protocols import LEROBOT
from pi05.sim.libero.rendering import choose_rendering
from pi05.sim.libero.setup import start_libero

HERE = Path(__file__).parent
CASES = (
    ("libero_object", 0, 2),
    ("libero_spatial", 5, 2),
    ("libero_goal", 0, 1),
    ("libero_10", 3, 2),
    ("libero_90", 0, 1),
)
"""Suite, number of the task, episodes. Task 3 of libero_10 and task 0 of libero_90 have drawers to draw for."""
STEPS, EVERY = 40, 10
PACKAGES = ("mujoco", "numpy", "scipy", "numba", "hf-libero", "robosuite")
TOLERANCES = {"frames": 0.0, "fixtures": 0.0, "joints": 1e-12, "state": 1e-6}
"""Largest differences: levels of 255, m, m or rad, m or rad.

The joints are equal to the bit where both sides have one SciPy, whose LAPACK the controller calls through numba; with
1.17 here and 1.18 there they were 1e-13 apart. LeRobot turns the rotation into axis and angle in float32, pi05 before
it rounds: a last bit of pi, 2.4e-7.
"""


def main() -> int:
    """Run both sides, compare, print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lerobot-python", required=True, help="Python of an environment with lerobot and LIBERO")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "rendering": choose_rendering(),
        "protocol": LEROBOT.name,
        "steps": STEPS,
        "tolerances": TOLERANCES,
        "cases": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        theirs = run_lerobot(arguments.lerobot_python, Path(folder))
        result["versions"] = {
            "pi05": {name: metadata.version(name) for name in PACKAGES},
            "lerobot": theirs["versions"],
        }
        for suite, number, episodes in CASES:
            for case in compare_task(suite, number, episodes, Path(folder)):
                result["cases"].append(case)
                print("  ".join(f"{name} {value}" for name, value in case.items()), flush=True)
    result["equal"] = all(case["equal"] for case in result["cases"])
    path = arguments.output / f"libero_contract_{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{'equal' if result['equal'] else 'NOT EQUAL'}: {path}")
    return 0 if result["equal"] else 1


def run_lerobot(python: str, folder: Path) -> dict[str, Any]:
    """Let LeRobot's side carry out every case, and return its versions."""
    order = folder / "order.json"
    order.write_text(
        json.dumps(
            {
                "cases": CASES,
                "steps": STEPS,
                "every": EVERY,
                "seed": LEROBOT.seed,
                "px": LEROBOT.render_px,
                "folder": str(folder),
                "assets": str(start_libero().assets),
                "packages": PACKAGES,
            }
        )
    )
    script = HERE / "libero_lerobot_side.py"
    subprocess.run([python, str(script), str(order)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return dict(json.loads((folder / "about.json").read_text()))


def compare_task(suite: Any, number: int, episodes: int, folder: Path) -> list[dict[str, Any]]:
    """Carry out a task's episodes on our side, and return how far each is from LeRobot's."""
    environment = LiberoEnvironment(suite, (), protocol=LEROBOT)
    task = environment.tasks[number]
    cases = []
    for episode in range(episodes):
        environment.reset(episode, task)
        looks = [environment.observe()]
        for step, action in enumerate(actions(episode), start=1):
            environment.step(action)
            if step % EVERY == 0:
                looks.append(environment.observe())
        theirs = np.load(folder / f"{suite}-{number}-{episode}.npz")
        frames = [np.stack([look[name] for look in looks]) for name in IMAGES]
        differences = {
            "frames": max(_apart(ours, theirs[f"image{which}"]) for which, ours in enumerate(frames)),
            "state": _apart(np.stack([look["observation.state"] for look in looks]), theirs["state"]),
            "joints": _apart(environment.simulator_state(), theirs["joints"]),
            "fixtures": _apart(np.asarray(environment.simulator.sim.model.body_pos), theirs["fixtures"]),
        }
        same_words = looks[0]["task"] == str(theirs["task"])
        equal = same_words and all(differences[name] <= most for name, most in TOLERANCES.items())
        cases.append({"suite": suite, "task": number, "episode": episode, "equal": equal, **differences})
    environment.close()
    return cases


def actions(episode: int) -> np.ndarray:
    """Return the actions of an episode; LeRobot's side draws the same."""
    return np.random.default_rng(episode).uniform(-1, 1, (STEPS, 7)).astype(np.float32)


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference; the same shape is a part of being equal."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())


if __name__ == "__main__":
    sys.exit(main())
