"""Stand-ins for Slurm's programs, and for Python where no training is wanted, around the real launch/slurm.sbatch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "launch" / "slurm.sbatch"
SECONDS = 30.0
RUNNING = "JobState=RUNNING Reason=None PreemptTime=None"
CANCELLED = "JobState=COMPLETING Reason=None PreemptTime=None"
PROGRAMS = {
    "srun": 'echo "$@" >>"$T/srun"\nwhile [[ $1 == --* ]]; do shift; done\n'
    '[ -z "${SRUN:-}" ] && exec "$@"\neval "$SRUN"\n',
    "scontrol": 'case "$1 $2" in\n"show hostnames") echo "${MACHINE:-first}";;\n"show job") echo "$FACTS";;\n'
    '*) echo "$@" >>"$T/requeued"; exit "${REFUSED:-0}";;\nesac\n',
    "squeue": 'echo "$LIMIT"\n',
    "scancel": 'echo "$@" >>"$T/scancel"\nkill -TERM $(cat "$T/step")\n',
    "python": '[ "${*: -1}" = --help ] && { touch "$T/asked"; eval "${HELP:-:}"; exit; }\n'
    'trap "$TOLD; exit 1" TERM\necho $PPID $$ >"$T/step"\neval "$TRAINING"\n',
}
"""Shell lines. The step is the shell of the machine and the Python below it; a real Slurm tells both."""
WAIT = 'touch "$T/ready"; while true; do sleep 0.05; done'


class Job:
    """A job of one machine, started, told, ended."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "run"
        programs = folder / "bin"
        programs.mkdir()
        for name, lines in PROGRAMS.items():
            (programs / name).write_text(f"#!/bin/bash\n{lines}")
            (programs / name).chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "T": str(folder),
            "RUN": str(self.run),
            "FACTS": RUNNING,
            "LIMIT": "1-00:00:00",
            "TOLD": ":",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "first",
            "SLURM_NNODES": "1",
            "SLURM_CPUS_PER_TASK": "64",
        }

    def start(
        self, training: str = ":", variables: Mapping[str, str] | None = None, words: Sequence[str] = ("--steps=7",)
    ) -> subprocess.Popen[str]:
        """Start the job with the flags of `pi05 train`; `training` is what the stand-in for Python does."""
        return subprocess.Popen(
            ["bash", str(FILE), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**self.environment, "TRAINING": training, **(variables or {})},
        )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        told = process.communicate(timeout=SECONDS)[0]
        return process.returncode, told

    def complete(self, training: str, **variables: str) -> tuple[int, str]:
        return self.end(self.start(training, variables))

    def tell_machine(self, training: str = "", **variables: str) -> tuple[int, str]:
        """Start a training that waits after `training`, tell its machine to stop, and return how the job ended."""
        process = self.start(f"{training or ':'}; {WAIT}", variables)
        self.wait_for("ready")
        for each in (self.folder / "step").read_text().split():
            os.kill(int(each), signal.SIGTERM)
        return self.end(process)

    def wait_for(self, name: str) -> None:
        limit = time.monotonic() + SECONDS
        while not (self.folder / name).exists():
            assert time.monotonic() < limit, f"{name} never came"
            time.sleep(0.01)

    def note(self, *sessions: tuple[str, int, int]) -> str:
        """Return the shell line with which training notes its sessions: status, first step, last step."""
        entries = [{"started": "now", "first_step": a, "last_step": b, "status": status} for status, a, b in sessions]
        file = self.folder / "history.json"
        file.write_text(json.dumps({"sessions": entries}, indent=2))
        return f"cp {file} {self.run}/history.json"

    @property
    def requeued(self) -> bool:
        return (self.folder / "requeued").exists()
