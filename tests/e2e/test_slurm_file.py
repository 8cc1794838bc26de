"""launch/slurm.sbatch with stand-ins for Slurm's programs, real torchrun and training."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import Job
from launched import finish, flags, records, wait_for_step

from pi05.checkpoint.run_folder import list_checkpoints


def child_of(parent: int) -> int:
    """Return the process id of the one child of a process."""
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(child)


@pytest.mark.slow
def test_the_slurm_file_survives_preemption(workshop: Any, tmp_path: Path) -> None:
    job, requeued = Job(tmp_path), tmp_path / "requeued"
    settings = {"steps": 120, "policy__scheduler_decay_steps": 120, "save_freq": 1000, "eval_steps": 0}
    words = [word for word in flags(workshop, job.run, **settings) if not word.startswith("--output_dir")]
    real = {"PI05_PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "SLURM_GPUS_ON_NODE": "2"}
    real |= {"SLURM_JOB_NODELIST": "localhost", "MACHINE": "localhost"}

    process = job.start(variables=real, words=words)
    wait_for_step(job.run, 3, process)
    machine = child_of(process.pid)
    for each in (child_of(machine), machine):  # Slurm tells every process of the step
        os.kill(each, signal.SIGTERM)
    code, told = finish(process)
    assert code == 0, told
    assert requeued.read_text() == "requeue 7\n"
    assert len(list_checkpoints(job.run)) == 1
    code, told = finish(job.start(variables=real, words=words))
    assert code == 0, told
    assert "resumed: " in told
    assert ("train", 120) in records(job.run)
    assert requeued.read_text() == "requeue 7\n", "a finished run is not put back"
