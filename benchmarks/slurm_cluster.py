"""launch/slurm.sbatch under a real Slurm: preempted, warned, cancelled, with processes killed, on two nodes.

    python benchmarks/slurm_cluster.py [--cases plain requeue ...]

The Slurm is one of two nodes on this computer (`local_slurm.py`); the run is the tiny preset on a CPU, through gloo,
with one process per node. Slurm's delays are shortened by hand: a job in the queue is started at once, a time limit is
lowered. It cannot show what real machines, real networks and GPUs would do. Every case has a check; with one that
fails the program ends with 1. Prints a table and writes benchmarks/results/slurm_cluster_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from local_slurm import LocalSlurm
from rich.console import Console
from rich.table import Table
from slurm_job import MANY, STEPS, TOLERANCE, Bench, Failed, losses, require

from pi05.machine import machine_info

DEAD_SECONDS, ORPHAN_SECONDS = 60.0, 120.0
"""How long a job may live after a training process was killed, and after its torchrun was, whose orphan Slurm ends: it
warns, waits, and kills."""


def plain(bench: Bench) -> str:
    """On two nodes the losses of one process; each node's step has its CPUs."""
    alone = bench.run("alone")
    words = [sys.executable, "-m", "pi05", "train", *bench.words(STEPS), f"--output_dir={alone}"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    require(done.returncode == 0, done.stdout + done.stderr)
    bench.submit("plain")
    bench.to_step("plain", 1)
    given = bench.slurm.tell("squeue", "--noheader", "--steps", f"--jobs={bench.job}", "-O", "StepID,NumCPUs")
    step = [line.split() for line in bench.slurm.tell("scontrol", "show", "step", f"{bench.job}.0").splitlines()]
    cpus = [int(word.removeprefix("CPUs=")) for line in step for word in line if word.startswith("CPUs=")]
    require(bool(cpus) and cpus[0] >= 8, f"the step has {cpus} CPUs instead of 2 × 4: {given}")
    bench.end("COMPLETED")
    require("2 processes on 2 machines" in bench.slurm.output(bench.job), "not on two machines")
    found, wanted = losses(bench.run("plain")), losses(alone)
    require(len(found) == len(wanted) == STEPS, f"{len(found)} and {len(wanted)} steps instead of {STEPS}")
    difference = max(abs(found[step] - wanted[step]) / abs(wanted[step]) for step in range(1, 21))
    require(difference <= TOLERANCE, f"losses of the first 20 steps differ by {difference:.1e}")
    return f"losses of one process within {difference:.1e} (20 steps)"


def stopped_at(bench: Bench, name: str, *words: str) -> str:
    """Stop a job in the middle with a command: saved, back in the queue, resumed, the run of the uninterrupted one."""
    bench.submit(name)
    bench.to_step(name, 3)
    bench.slurm.tell(*words, bench.job)
    return bench.resumed_as_plain(name)


def requeue(bench: Bench) -> str:
    """`scontrol requeue` in the middle."""
    return stopped_at(bench, "requeue", "scontrol", "requeue")


def steps_told(bench: Bench) -> str:
    """SIGTERM to the job's steps."""
    return stopped_at(bench, "steps_told", "scancel", "--signal=TERM")


def script_told(bench: Bench) -> str:
    """SIGTERM to the batch script alone."""
    return stopped_at(bench, "script_told", "scancel", "--batch", "--signal=TERM")


def grace(bench: Bench) -> str:
    """A job of higher priority takes the nodes after a minute of grace."""
    bench.submit("grace", limits=("--partition=grace",))
    bench.to_step("grace", 3)
    other = ["--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 3"]
    bench.slurm.tell("sbatch", f"--chdir={bench.folder}", *other)
    return bench.resumed_as_plain("grace")


def time_limit(bench: Bench) -> str:
    """Slurm's warning before the end of the time; the limit is lowered in the middle, and restored in the queue."""
    run = bench.run("time_limit")
    bench.submit("time_limit", steps=MANY)  # Slurm looks at limits every 30 seconds
    bench.to_step("time_limit", 3)
    bench.slurm.tell("scontrol", "update", f"JobId={bench.job}", "TimeLimit=1")
    step = bench.back("time_limit", "TimeLimit=10")
    require(step == max(losses(run)), f"saved at step {step} instead of {max(losses(run))}")
    bench.to_step("time_limit", step + 3)
    require("resumed: " in bench.slurm.output(bench.job), "not resumed")
    bench.slurm.tell("scancel", bench.job)
    bench.end("CANCELLED")
    found, wanted = losses(run), losses(bench.run("plain"))
    both = sorted(found.keys() & wanted.keys())
    require(all(found[each] == wanted[each] for each in both), "other losses than the uninterrupted run")
    return f"saved at step {step}, resumed; the {len(both)} losses in common bit-equal"


def cancelled(bench: Bench) -> str:
    """`scancel`: saved, and not put back."""
    bench.submit("cancelled", steps=MANY)
    bench.to_step("cancelled", 3)
    bench.slurm.tell("scancel", bench.job)
    bench.end("CANCELLED")
    require(len(list((bench.run("cancelled") / "checkpoints").glob("[0-9]*"))) == 1, "not saved")
    return "saved, not put back"


def killed(bench: Bench, name: str, rank: int, above: bool, limit: float) -> str:
    """Kill the training process of a rank, or the torchrun above it; which node has which rank, torchrun decides."""
    bench.submit(name, steps=MANY)
    bench.to_step(name, 3)
    victim = bench.slurm.processes(f"SLURM_JOB_ID={bench.job}", f"RANK={rank}")[0]
    if above:
        victim = int(Path(f"/proc/{victim}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    bench.end("FAILED")
    seconds = time.monotonic() - began
    require(seconds < limit, f"ended only after {seconds:.0f} s")
    told = bench.slurm.output(bench.job)
    require("back into the queue" not in told and ("error: " in told or "Killed" in told), f"no error: {told[-2000:]}")
    return f"FAILED after {seconds:.0f} s"


def training_killed(bench: Bench) -> str:
    """kill -9 of rank 0's training."""
    return killed(bench, "training_killed", rank=0, above=False, limit=DEAD_SECONDS)


def torchrun_killed(bench: Bench) -> str:
    """kill -9 of the torchrun of the node that has rank 1."""
    return killed(bench, "torchrun_killed", rank=1, above=True, limit=ORPHAN_SECONDS)


def early(bench: Bench, name: str, *words: str) -> str:
    """Tell a job to stop at its start: back in the queue, nothing trained, then the whole run."""
    bench.submit(name)
    what = ("squeue", "--noheader", "--steps", f"--jobs={bench.job}", "--format=%i")
    listed = f"{bench.job}.batch" if "--batch" in words else f"{bench.job}.0"
    bench.slurm.until(lambda: listed in bench.slurm.tell(*what), "the step never came", bench.job)
    time.sleep(0.5)  # Slurm lists a step before it has started it, and tells nobody then
    bench.slurm.tell("scancel", *words, bench.job)
    require(bench.back(name) == 0, "too late: training had begun")
    bench.end("COMPLETED")
    bench.same_as_plain(name)
    return f"back in the queue, then all {STEPS} losses bit-equal"


def early_steps(bench: Bench) -> str:
    """SIGTERM to the steps before the first step of training."""
    return early(bench, "early_steps", "--signal=TERM")


def early_script(bench: Bench) -> str:
    """SIGTERM to the batch script before it starts anything."""
    return early(bench, "early_script", "--batch", "--signal=TERM")


def short_limit(bench: Bench) -> str:
    """A time limit shorter than the warning."""
    bench.submit("short_limit", limits=("--time=1",), SAVE_SECONDS="570")
    bench.end("FAILED")
    require(bench.slurm.fact(bench.job, "ExitCode") == "2:0", "not exit code 2")
    told = bench.slurm.output(bench.job)
    require("  wanted: 1200 seconds or more" in told and "  found:  1:00, 60 seconds" in told, told)
    require(not (bench.run("short_limit") / "config.json").exists(), "the run was begun")
    return "refused with exit code 2"


CASES: tuple[Callable[[Bench], str], ...] = (
    *(plain, requeue, steps_told, script_told, grace, time_limit, cancelled),
    *(training_killed, torchrun_killed, early_steps, early_script, short_limit),
)


def main() -> None:
    """Run the cases, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [case.__name__ for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names, help="only these; nothing is written then")
    chosen = parser.parse_args().cases
    rows: list[dict[str, Any]] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the daemons end
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, LocalSlurm(Path(name)) as slurm:
        bench = Bench(slurm, Path(name))
        subprocess.run([sys.executable, "-m", "pi05", "collect", f"--output={bench.data}", "--episodes=10"], check=True)
        version = slurm.version
        for case in CASES:
            if case.__name__ not in chosen and case is not plain:
                continue
            began = time.monotonic()
            try:
                found, passed = case(bench), True
            except (Failed, TimeoutError) as problem:
                found, passed = str(problem), False
                slurm.tell("scancel", bench.job)
            what = " ".join((case.__doc__ or "").split())
            rows.append({"case": case.__name__, "what": what, "passed": passed, "found": found})
            rows[-1]["seconds"] = round(time.monotonic() - began, 1)
            print(f"{case.__name__}: {'passed' if passed else 'FAILED'}: {found}", flush=True)
            if case is plain and not passed:
                break
    show(rows)
    if chosen == names:
        result = {
            "date": date.today().isoformat(),
            "machine": machine_info(),
            "slurm": version,
            "device": "CPU, gloo, two nodes on one computer, one process each",
            "steps": STEPS,
            "rows": rows,
        }
        path = Path(__file__).parent / "results" / f"slurm_cluster_{result['date']}.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
    if not all(row["passed"] for row in rows):
        raise SystemExit(1)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(title="launch/slurm.sbatch under Slurm", title_justify="left")
    for column in ("case", "what happens", "", "found"):
        table.add_column(column)
    for row in rows:
        table.add_row(row["case"], row["what"], "passed" if row["passed"] else "FAILED", row["found"][:300])
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
