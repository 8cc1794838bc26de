"""One training as a Slurm job: submitted, waited for, hurried, and what must hold of it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from local_slurm import LocalSlurm

SCRIPT = Path(__file__).resolve().parents[1] / "launch" / "slurm.sbatch"
STEPS = 150
MANY = 100_000
"""Steps of a run that is not meant to reach its end."""
TOLERANCE = 1e-5
"""Relative, for the first 20 steps of two processes against one; other orders of sums grow from there."""
LIMITS = ["--gpus-per-node=1", "--cpus-per-task=4", "--time=10", "--signal=TERM@60"]
SAVE_SECONDS = "30"


class Failed(Exception):
    """A check that does not hold."""


def require(true: bool, problem: str) -> None:
    """Raise Failed unless `true`."""
    if not true:
        raise Failed(problem)


class Bench:
    """The cluster, the data, and the runs so far."""

    def __init__(self, slurm: LocalSlurm, folder: Path) -> None:
        self.slurm, self.folder = slurm, folder
        self.data = folder / "data"
        self.job = ""

    def words(self, steps: int) -> list[str]:
        """Return the flags of every run."""
        return [
            *("--preset=tiny", f"--dataset.root={self.data}", f"--dataset.cache_dir={self.folder}/cache"),
            *(f"--steps={steps}", f"--policy.scheduler_decay_steps={STEPS}", "--policy.scheduler_warmup_steps=1"),
            *("--save_freq=1000000", "--eval_steps=0", "--log_freq=1", "--threads=1", "--global_batch_size=4"),
            "--policy.device=cpu",
        ]

    def run(self, name: str) -> Path:
        """Return the folder of a case's run."""
        return self.folder / "runs" / name

    def submit(self, name: str, *words: str, steps: int = STEPS, limits: tuple[str, ...] = (), **more: str) -> None:
        """Submit the run of a case; it becomes the job that the other methods mean."""
        variables = {"PI05_PYTHON": sys.executable, "SAVE_SECONDS": SAVE_SECONDS, **more}
        given = [*self.words(steps), *words]
        self.job = self.slurm.submit(SCRIPT, self.run(name), [*LIMITS, *limits], given, **variables)

    def to_step(self, name: str, step: int) -> None:
        """Wait until a step is done."""
        run, slurm, job = self.run(name), self.slurm, self.job
        slurm.until(lambda: step in losses(run), f"step {step} never came", job)

    def back(self, name: str, *update: str) -> int:
        """Check that the job is in the queue again, start it at once, and return the step it was saved at, or 0."""
        state = self.slurm.wait(self.job, "PENDING", "FAILED", "COMPLETED", "CANCELLED", "TIMEOUT", "PREEMPTED")
        require(state == "PENDING", f"not back in the queue, but {state}: {self.slurm.output(self.job)[-3000:]}")
        found = [int(each.name) for each in (self.run(name) / "checkpoints").glob("[0-9]*")]
        require(len(found) <= 1, f"more than one checkpoint: {found}")
        time.sleep(3)  # a node refuses the same job within the second in which it has ended it
        self.slurm.tell("scontrol", "update", f"JobId={self.job}", *update, "StartTime=now")
        return found[0] if found else 0

    def end(self, wanted: str) -> None:
        """Check how the job ends."""
        state = self.slurm.wait(self.job, "FAILED", "COMPLETED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL")
        require(state == wanted, f"{state} instead of {wanted}: {self.slurm.output(self.job)[-3000:]}")

    def resumed_as_plain(self, name: str, *update: str) -> str:
        """Check that the job was saved and put back, and that its next start ends with the losses of `plain`."""
        step = self.back(name, *update)
        require(3 <= step < STEPS, f"saved at step {step}")
        self.end("COMPLETED")
        require("resumed: " in self.slurm.output(self.job), "not resumed")
        self.same_as_plain(name)
        return f"saved at step {step}, resumed, all {STEPS} losses bit-equal"

    def same_as_plain(self, name: str) -> None:
        """Check that the whole run has the losses of the uninterrupted one, bit for bit."""
        found, wanted = losses(self.run(name)), losses(self.run("plain"))
        differing = [step for step in wanted if found.get(step) != wanted[step]]
        require(len(found) == len(wanted) and not differing, f"losses differ at the steps {differing[:5]}")


def losses(run: Path) -> dict[int, float]:
    """Return the loss of each step that has been noted so far."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return {}
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return {record["step"]: record["loss"] for record in records if record["type"] == "train"}
