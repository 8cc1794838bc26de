"""Training pi05-tiny on a CPU: one process with one thread, one with a thread for each core, a process for each core.

    python benchmarks/training_cores.py --data DEMONSTRATIONS --cameras SCENE,WRIST

The step is that of the demonstrations (preset `demo`), on any data set with two cameras. In turns; a repetition is a
run of some steps by the command's own functions, the first steps left out. CPU seconds count all processes. Writes
benchmarks/results/training_cores_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
STARTING = 20
"""Steps that are not timed."""
WAYS = ("1 thread", "threads", "processes")


def main() -> None:
    """Measure in turns and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cameras", required=True, help="the scene's and the hand's, separated by a comma")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60, help="that are timed")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(train_once(given)))
        return
    from pi05.machine import machine_info

    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(given.rounds):
        rounds.append({way: in_child(way) for way in WAYS})
        print({way: round(found["samples_per_s"], 1) for way, found in rounds[-1].items()}, flush=True)
    result: dict[str, Any] = {"what": "training pi05-tiny, batch 32, two cameras", "date": date.today().isoformat()}
    result |= {"machine": machine_info(), "cores": given.cores, "load_before": os.getloadavg()}
    for way in WAYS:
        rates = [each[way]["samples_per_s"] for each in rounds]
        ratios = [each[way]["samples_per_s"] / each["threads"]["samples_per_s"] for each in rounds]
        result[way] = {
            "samples_per_s": statistics.median(rates),
            "over_threads": statistics.median(ratios),
            "cpu_s_per_1000_samples": statistics.median(each[way]["cpu_s_per_1000_samples"] for each in rounds),
        }
        print(way, result[way])
    path = RESULTS / f"training_cores_{date.today().isoformat()}.json"
    path.write_text(json.dumps(result | {"rounds": rounds}, indent=1) + "\n")
    print(f"wrote {path}")


def in_child(way: str) -> dict[str, float]:
    """Train in a new process, since threads are chosen when PyTorch starts."""
    words = [sys.executable, __file__, *sys.argv[1:], f"--way={way}"]
    told = subprocess.run(
        words, check=True, capture_output=True, text=True, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    )
    return dict(json.loads(told.stdout.splitlines()[-1]))


def train_once(given: argparse.Namespace) -> dict[str, float]:
    """Return samples per second from the first timed step to the last, and CPU seconds of all that was done."""
    from pi05 import presets
    from pi05.demo.fine_tune import fine_tune
    from pi05.train.loop import train

    preset, steps = presets.demo(), STARTING + given.steps
    with tempfile.TemporaryDirectory() as folder:
        config = replace(
            preset,
            policy=replace(preset.policy, path=str(presets.TINY_BASE), scheduler_warmup_steps=1),
            dataset=replace(
                preset.dataset, root=str(given.data), cache_dir=str(Path(tempfile.gettempdir()) / "pi05-cores")
            ),
            rename_map=dict(zip(given.cameras.split(","), ("scene", "left_wrist"), strict=True)),
            output_dir=f"{folder}/run",
            steps=steps,
            eval_steps=0,
            save_freq=steps,
            log_freq=STARTING,
            threads=1 if given.way == "1 thread" else given.cores,
        )
        started = time.perf_counter()
        (fine_tune if given.way == "processes" else train)(config)
        wall = time.perf_counter() - started
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    rates = [line["samples_per_second"] for line in lines if line["type"] == "train" and line["step"] > STARTING]
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    return {
        "samples_per_s": statistics.harmonic_mean(rates),
        "cpu_s_per_1000_samples": 1000 * cpu / config.samples_per_step() / steps,
        "wall_s": wall,
    }


if __name__ == "__main__":
    main()
