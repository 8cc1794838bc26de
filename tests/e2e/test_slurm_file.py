"""launch/slurm.sbatch with stand-ins for Slurm's programs, real torchrun and training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launched import finish, flags, records, wait_for_step

from pi05.checkpoint.run_folder import list_checkpoints


def child_of(parent: int) -> int:
    """Return the process id of the one child of a process."""
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(child)


@pytest.mark.slow
def test_the_slurm_file_survives_preemption(workshop: Any, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text('#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n')
    (programs / "squeue").write_text("#!/bin/bash\necho 1-00:00:00\n")
    (programs / "scontrol").write_text(
        f'#!/bin/bash\n[ "$1" = show ] && echo localhost || echo "$@" >> {tmp_path}/requeued\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    run = tmp_path / "run"
    words = flags(workshop, run, steps=120, policy__scheduler_decay_steps=120, save_freq=1000, eval_steps=0)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PI05_PYTHON": sys.executable,
        "RUN": str(run),
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_JOB_ID": "7",
    }
    script = Path(__file__).resolve().parents[2] / "launch" / "slurm.sbatch"
    given = [word for word in words if not word.startswith("--output_dir")]

    def submit() -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(script), *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    job = submit()
    wait_for_step(run, 3, job)
    machine = child_of(job.pid)
    for each in (child_of(machine), machine):  # Slurm tells every process of the step
        os.kill(each, signal.SIGTERM)
    code, told = finish(job)
    assert code == 0, told
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    assert len(list_checkpoints(run)) == 1
    code, told = finish(submit())
    assert code == 0, told
    assert "resumed: " in told
    assert ("train", 120) in records(run)
    assert (tmp_path / "requeued").read_text() == "requeue 7\n", "a finished run is not put back"
