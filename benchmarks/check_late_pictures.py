"""How often `pictures.late` is right, on cameras and amounts that its thresholds were not set on.

    python benchmarks/check_late_pictures.py

They were set on sound sets, and on table-top pictures that were eight frames late. Here the pictures of the real CR5
and GR1 sets, of table-top demonstrations of another seed, and of made-up robots of other seeds (`random_robots.py`) are
judged as they are, where nothing may be told, and with pictures that come 3 to 12 frames late or early, and stand still
for as long at one end. For that nothing is encoded anew: how much pictures change is moved against how fast the state
does. The rule for quick changes was set with the two real sets in view, and with robots of other seeds.
Writes benchmarks/results/check_late_pictures_DATE.json anew after every set.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from check_alarms import SHARED, gr1_arm
from random_robots import draw_robot, write_filmed_set

from pi05.check.pictures.timing import Pair, measure_timing, pairs_of, speeds_of
from pi05.check.subject import Subject
from pi05.data.lerobot.reader import Dataset
from pi05.machine import machine_info

SHIFTS = (-12, -8, -5, -3, 0, 3, 5, 8, 12)
"""Compared frames by which pictures come late; early ones are negative."""
FIRST_SEED = 1000
"""`check_alarms.py` has the seeds from 0 on."""


def main() -> None:
    """Judge, count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--robots", type=int, default=20, help="made-up robots")
    arguments = parser.parse_args()
    kinds: dict[str, dict[str, Any]] = {}
    path = Path(__file__).parent / "results" / f"check_late_pictures_{date.today().isoformat()}.json"
    with tempfile.TemporaryDirectory() as folder:
        for kind, root in sound_sets(Path(folder), arguments.robots):
            told = kinds.setdefault(kind, {"cameras": 0, "told": {str(shift): 0 for shift in SHIFTS}, "by": []})
            for camera, by in judge(Dataset(root)).items():
                told["cameras"] += 1
                told["by"].append({"set": root.name, "camera": camera, "told": by})
                for shift, (right, _) in by.items():
                    told["told"][shift] += int(right)
                print(kind, camera, by, flush=True)
            result = {"date": date.today().isoformat(), "machine": machine_info(), "kinds": kinds}
            path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({kind: {key: told[key] for key in ("cameras", "told")} for kind, told in kinds.items()}, indent=1))
    print(path)


def sound_sets(folder: Path, robots: int) -> Iterator[tuple[str, Path]]:
    """Yield kind and folder of each."""
    yield "CR5", SHARED / "cr5_v30_5ep_onefile"
    yield "GR1", gr1_arm(folder / "gr1")
    flags = ["--episodes=40", "--seed=77", f"--output={folder / 'tabletop'}"]
    subprocess.run([sys.executable, "-m", "pi05", "collect", *flags], check=True, capture_output=True)
    yield "table-top", folder / "tabletop"
    for seed in range(FIRST_SEED, FIRST_SEED + robots):
        rng = np.random.default_rng([seed, 3])
        robot = draw_robot(seed, episodes=int(rng.integers(4, 12)), seconds=float(rng.uniform(4, 10)))
        root = folder / f"robot_{seed}"
        write_filmed_set(robot, root, cameras=int(rng.integers(1, 3)))
        yield "made-up robots", root


def judge(dataset: Dataset) -> dict[str, dict[str, tuple[bool, int | None]]]:
    """Return for each camera and shift whether that is told: late by that many frames, give or take two
    (CR5's own pictures come two late), and by how many, if any.
    """
    subject = Subject(dataset=dataset, episodes=range(dataset.num_episodes))
    speeds = speeds_of(subject)
    told: dict[str, dict[str, tuple[bool, int | None]]] = defaultdict(dict)
    for camera in dataset.camera_keys:
        pairs = pairs_of(subject, camera, speeds)
        for shift in SHIFTS:
            timing = measure_timing([_apart(pair, shift) for pair in pairs])
            late = timing.shift if timing is not None and timing.tells_late else None
            told[camera][str(shift)] = (late is not None and abs(late - shift) <= 2, late)
    return told


def _apart(pair: Pair, shift: int) -> Pair:
    """Return the motion of pictures that come so many frames late: at one end they stand still."""
    change, speed = pair
    still = np.zeros(min(abs(shift), len(change)))
    if shift >= 0:
        return np.concatenate([still, change[: len(change) - len(still)]]), speed
    return np.concatenate([change[len(still) :], still]), speed


if __name__ == "__main__":
    main()
