"""What it costs that threads spin while they wait: a chunk of the packaged policy beside other programs.

    python benchmarks/busy_threads.py

As many threads as cores, alone and beside as many programs that want a core each, with OpenMP's default and with
OMP_WAIT_POLICY=PASSIVE, which `pi05` sets; in turns. Writes benchmarks/results/busy_threads_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
WAYS = ("default", "PASSIVE")
SPIN = "while True: pass"


def main() -> None:
    """Measure in turns and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=5, help="in each round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.chunks, given.threads)
        return
    from pi05.machine import machine_info

    result: dict[str, Any] = {"what": "seconds of a chunk of pi05-tiny", "date": date.today().isoformat()}
    result |= {"machine": machine_info(), "threads": given.threads, "load_before": os.getloadavg()}
    for others in (0, given.threads):
        busy = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(others)]
        try:
            rounds = [{way: measure(way, given) for way in WAYS} for _ in range(given.rounds)]
        finally:
            for process in busy:
                process.kill()
                process.wait()
        result[f"beside {others} busy programs"] = {
            way: {
                "wall_s": statistics.median(each[way]["wall_s"] for each in rounds),
                "cpu_s": statistics.median(each[way]["cpu_s"] for each in rounds),
            }
            for way in WAYS
        } | {"rounds": rounds}
        print(others, {way: result[f"beside {others} busy programs"][way] for way in WAYS}, flush=True)
    path = RESULTS / f"busy_threads_{date.today().isoformat()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}")


def measure(way: str, given: argparse.Namespace) -> dict[str, float]:
    """Return the middle time of a chunk in a process that waits in this way."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    if way != "default":
        environment["OMP_WAIT_POLICY"] = way
    words = [sys.executable, __file__, "--serve", "--chunks", str(given.chunks), "--threads", str(given.threads)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def serve(chunks: int, threads: int) -> None:
    """Time chunks in this process."""
    import numpy as np
    import torch

    from pi05 import Policy
    from pi05.presets import TINY_BASE
    from pi05.types import STATE

    torch.set_num_threads(threads)
    policy = Policy.load(TINY_BASE)
    processor = policy.processor
    observation: dict[str, Any] = {name: np.zeros((48, 48, 3), np.uint8) for name in processor.slots.keys}
    low, high = (np.asarray(each, np.float32) for each in (processor.state_stats.q01, processor.state_stats.q99))
    observation |= {STATE: (low + high) / 2, "task": "push the red cube"}
    policy.infer(observation)
    walls, cpus = [], []
    for _ in range(chunks):
        wall, cpu = time.perf_counter(), time.process_time()
        policy.infer(observation)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    print(json.dumps({"wall_s": statistics.median(walls), "cpu_s": statistics.median(cpus)}))


if __name__ == "__main__":
    main()
