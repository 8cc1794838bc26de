"""How long `pi05 check` takes for a million frames whose pictures are not opened, and how much memory.

    python benchmarks/check.py --frames 1000000

Writes a synthetic v3.0 set (`random_robots.py`: two arms, grippers, 30 frames/s), runs the real command on it, and
measures the process from outside: seconds, seconds of CPU, the largest resident memory (wait4). Once the set has a
camera whose videos are not opened (`--quick`: files, numbers, tasks and the recipe on all frames), once it has none and
everything is looked at that such a set has, the page included; which families had something to say stands beside it.
Prints it all and writes benchmarks/results/check_DATE.json. The bar: under a minute and under 2 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from random_robots import draw_robot, write_set

from pi05.machine import machine_info

SECONDS, BYTES = 60.0, 2e9


def main() -> None:
    """Write a set, check it, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--episode-seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=10, help="chooses the robot: 10 has two arms, 16 numbers")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        robot = draw_robot(arguments.seed)
        episodes = max(1, round(arguments.frames / (arguments.episode_seconds * robot.fps)))
        robot = draw_robot(arguments.seed, episodes=episodes, seconds=arguments.episode_seconds)
        measured, frames, size = {}, 0, 0
        for name, (unseen, flags) in MODES.items():
            root = Path(folder) / "set"
            frames = write_set(robot, root, unseen_camera=unseen)
            size = sum(path.stat().st_size for path in root.rglob("*.parquet"))
            measured[name] = measure([str(root), "--json", f"--page_dir={folder}/page", *flags])
            shutil.rmtree(root)
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "load_before": load,
        "frames": frames,
        "episodes": episodes,
        "dims": robot.dims,
        "fps": robot.fps,
        "bytes": size,
        "bar": {"seconds": SECONDS, "bytes": BYTES},
        "measured": measured,
    }
    path = Path(__file__).parent / "results" / f"check_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    print(path)


MODES: dict[str, tuple[bool, list[str]]] = {"with a recipe, no picture opened": (True, ["--quick"]), "all": (False, [])}
"""Name → whether the set lists a camera, and flags."""


def measure(arguments: list[str]) -> dict[str, Any]:
    """Run the command once and return what it took."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "pi05", "check", *arguments], stdout=subprocess.PIPE)
    assert child.stdout is not None
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    report = json.loads(text)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "largest_bytes": usage.ru_maxrss * 1024,
        "families": sorted({f["name"].partition(".")[0] for f in report["findings"]}),
        "exit_code": os.waitstatus_to_exitcode(status),
        "errors": [f["name"] for f in report["findings"] if f["status"] == "error"],
        "warnings": [f["name"] for f in report["findings"] if f["status"] == "warning"],
    }


if __name__ == "__main__":
    main()
