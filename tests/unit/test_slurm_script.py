"""launch/slurm.sbatch: what it does with signals, errors, time limits and loops, with stand-ins for Slurm and Python.

`benchmarks/slurm_cluster.py` shows the same under a real Slurm.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fake_slurm import CANCELLED, WAIT, Job

pytestmark = pytest.mark.process


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_a_run_that_finishes_ends_the_job(job: Job) -> None:
    assert job.complete("exit 0")[0] == 0
    assert not job.requeued
    words = (job.folder / "srun").read_text()
    assert "--kill-on-bad-exit=1 --cpus-per-task=64 " in words
    assert words.endswith(f"-m pi05 train --output_dir={job.run} --steps=7\n")


def test_a_machine_told_to_stop_before_training_began_goes_back(job: Job) -> None:
    code, told = job.tell_machine()
    assert (code, job.requeued) == (0, True), told
    assert "back into the queue" in told


def test_a_machine_told_to_stop_in_training_goes_back(job: Job) -> None:
    code, told = job.tell_machine(job.note(("running or killed", 0, 0)), TOLD=job.note(("interrupted", 0, 5)))
    assert (code, job.requeued) == (0, True), told


def test_a_shell_that_was_told_before_it_listened_goes_back(job: Job) -> None:
    assert job.complete("", SRUN="exit 143")[0] == 0
    assert job.requeued


@pytest.mark.parametrize("earlier", [(), (("interrupted", 0, 5),)])
def test_an_error_of_its_own_ends_the_job(job: Job, earlier: tuple[tuple[str, int, int], ...]) -> None:
    job.run.mkdir()
    subprocess.run(["bash", "-c", job.note(*earlier)], check=True)
    assert job.complete("exit 3")[0] == 3
    assert not job.requeued


def test_a_machine_that_is_ended_for_the_error_of_another_does_not_go_back(job: Job) -> None:
    """srun tells the others to stop, and returns the code of the one that failed."""
    srun = '"$@" & until [ -f "$T/ready" ]; do sleep 0.01; done; kill -TERM $(cat "$T/step"); wait; exit 1'
    code, told = job.complete(f"{job.note(('running or killed', 0, 0))}; {WAIT}", SRUN=srun)
    assert (code, job.requeued) == (1, False), told


def test_a_checkpoint_that_fails_when_told_to_stop_ends_the_job(job: Job) -> None:
    code, told = job.tell_machine(TOLD=job.note(("failed", 0, 5)))
    assert (code, job.requeued) == (1, False)
    assert "asked to stop, the run failed" in told


def test_machines_that_lose_each_other_before_the_first_step_go_back(job: Job) -> None:
    job.run.mkdir()
    subprocess.run(["bash", "-c", job.note(("interrupted", 0, 5))], check=True)
    code, told = job.tell_machine(TOLD=job.note(("interrupted", 0, 5), ("failed", 5, 5)))
    assert (code, job.requeued) == (0, True), told


@pytest.mark.parametrize(
    ("facts", "back"),
    [
        (CANCELLED, False),
        ("JobState=COMPLETING Reason=TimeLimit PreemptTime=None", True),
        ("JobState=COMPLETING Reason=None PreemptTime=2026-11-23T03:38:40", True),
    ],
)
def test_a_job_that_its_user_cancelled_stays_cancelled(job: Job, facts: str, back: bool) -> None:
    code, told = job.tell_machine(FACTS=facts)
    assert (code, job.requeued) == (0, back), told


def test_a_queue_that_does_not_take_the_job_is_an_error(job: Job) -> None:
    code, told = job.tell_machine(REFUSED="1")
    assert code == 2
    assert f"submit the same line again: it resumes {job.run}" in told


def test_the_script_alone_told_before_srun(job: Job) -> None:
    process = job.start("exit 3", {"HELP": "sleep 1"})
    job.wait_for("asked")
    process.send_signal(signal.SIGTERM)
    code, told = job.end(process)
    assert (code, job.requeued) == (0, True), told
    assert not (job.folder / "srun").exists()


def test_the_script_alone_told_before_training_began(job: Job) -> None:
    process = job.start(WAIT)
    job.wait_for("ready")
    python = int((job.folder / "step").read_text().split()[1])
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    os.kill(python, signal.SIGTERM)  # srun, ended, would have ended it
    code, told = job.end(process)
    assert (code, job.requeued) == (0, True), told
    assert not (job.folder / "scancel").exists()


def test_the_script_alone_told_in_training_tells_the_machines(job: Job) -> None:
    process = job.start(f"{job.note(('running or killed', 0, 0))}; {WAIT}")
    job.wait_for("ready")
    process.send_signal(signal.SIGTERM)
    code, told = job.end(process)
    assert (code, job.requeued) == (0, True), told
    assert (job.folder / "scancel").read_text() == "--quiet --signal=TERM 7\n"


@pytest.mark.parametrize(
    ("limit", "fits"),
    [("10:00", False), ("19:59", False), ("20:00", True), ("2:08:09", True), ("1-00:00:00", True), ("UNLIMITED", True)],
)
def test_a_time_limit_near_the_warning_is_refused(job: Job, limit: str, fits: bool) -> None:
    code, told = job.complete("exit 0", LIMIT=limit)
    assert code == (0 if fits else 2), told
    assert (job.folder / "srun").exists() == fits
    if not fits:
        assert "  wanted: 1200 seconds or more" in told
        assert f"  found:  {limit}, " in told


def test_a_job_without_progress_does_not_start_for_ever(job: Job) -> None:
    checkpoints = job.run / "checkpoints"
    for number in range(5):
        assert job.complete("exit 0", SLURM_RESTART_COUNT=str(number))[0] == 0
    code, told = job.complete("exit 0", SLURM_RESTART_COUNT="5")
    assert code == 2
    assert "5 starts from the beginning" in told
    assert job.complete("exit 0", SLURM_JOB_ID="8")[0] == 0, "submitted again"
    (checkpoints / "000100").mkdir(parents=True)
    (checkpoints / "last").symlink_to("000100")
    assert job.complete("exit 0", SLURM_RESTART_COUNT="6")[0] == 0, "progress"
    starts = (job.run / "slurm_starts.txt").read_text().splitlines()
    assert starts[-1].endswith("start 7-6 from checkpoint 000100")
