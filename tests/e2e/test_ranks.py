"""Several processes through the real command and the real torchrun (gloo, CPU): the run of one, and nobody hangs."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fakes
import pytest

from pi05.checkpoint.run_folder import list_checkpoints
from pi05.train.loop import train
from pi05.train_command import read_command

TOLERANCE = 1e-5
"""Relative; the same sums in another order."""
SETTINGS: dict[str, Any] = {
    "global_batch_size": 4,
    "batch_size": None,
    "steps": 4,
    "policy__scheduler_decay_steps": 4,
    "policy__scheduler_warmup_steps": 1,
    "save_freq": 2,
    "eval_steps": 2,
    "eval_frames": 5,
    "log_freq": 1,
}
LORA = {"from_scratch": False, "policy__use_peft": True, "peft__r": 4}
SECONDS = 240


def flags(workshop: Any, run: Path, **settings: object) -> list[str]:
    return [word for word in workshop.flags(run, **{**SETTINGS, **settings}) if not word.endswith("=None")]


def launch(words: list[str], processes: int = 2, wrapper: Path | None = None, **popen: Any) -> subprocess.Popen[str]:
    """Start torchrun; `wrapper` is a shell script in the place of `python -m pi05`."""
    started = ["-m", "pi05"] if wrapper is None else ["--no-python", "bash", str(wrapper)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [sys.executable, *torchrun, *started, "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **popen,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit code and output; a hang is a failure."""
    try:
        told = process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"hangs: {process.communicate()[0]}")
    return process.returncode, told


def run_ranks(words: list[str], processes: int = 2) -> str:
    code, told = finish(launch(words, processes))
    assert code == 0, told
    return told


def run_one(words: list[str]) -> None:
    train(read_command(words).config, console=False)


def records(run: Path) -> dict[tuple[str, int], dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {(line["type"], line["step"]): line for line in lines if line["type"] in ("train", "eval")}


def assert_same_run(found: Path, wanted: Path) -> None:
    left, right = records(found), records(wanted)
    assert left.keys() == right.keys()
    for step, record in right.items():
        for name in ("loss", "grad_norm", "param_norm", "action_error", "samples"):
            if name in record:
                assert left[step][name] == pytest.approx(record[name], rel=TOLERANCE), (step, name)


def process_of_rank(rank: int, parent: int) -> int:
    """Return the process id of a rank, once it is there."""
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit:
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                inherited = (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(parent)
                if inherited and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    return int(folder.name)
            except OSError:
                continue
        time.sleep(0.2)
    raise AssertionError(f"rank {rank} never started")


def child_of(parent: int) -> int:
    """Return the process id of the one child of a process."""
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(child)


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit and process.poll() is None:
        if (run / "metrics.jsonl").exists() and ("train", step) in records(run):
            return
        time.sleep(0.05)
    pytest.fail(f"step {step} never came: {process.communicate()[0] if process.poll() is not None else 'too slow'}")


@pytest.fixture(scope="module")
def alone(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, with the average and two passes per step."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run_one(flags(workshop, folder, ema__enable=True, gradient_accumulation_steps=2))
    return folder


@pytest.fixture(scope="module")
def alone_lora(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process with LoRA."""
    folder = tmp_path_factory.mktemp("lora") / "run"
    run_one(flags(workshop, folder, **LORA))
    return folder


def test_two_processes_with_the_whole_network_give_the_run_of_one(workshop: Any, alone: Path, tmp_path: Path) -> None:
    told = run_ranks(flags(workshop, tmp_path / "run", ema__enable=True, parallel="ddp", gradient_accumulation_steps=2))
    assert "training: 4 steps of 4 samples (2 GPUs × 2 passes of 1)" in told
    assert told.count("step 4/4") == 1, "only rank 0 speaks"
    assert_same_run(tmp_path / "run", alone)


def test_two_processes_with_half_the_network_each_give_the_run_of_one_and_one_continues(
    workshop: Any, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = run_ranks(flags(workshop, run, ema__enable=True, parallel="fsdp", gradient_accumulation_steps=2, steps=2))
    held, total = re.search(r"rank 0 holds ([\d.]+) of ([\d.]+) MB of weights", told).groups()  # type: ignore[union-attr]
    assert float(held) == pytest.approx(float(total) / 2, rel=0.01)
    parts = sum(path.stat().st_size for path in (run / "checkpoints/000002/training_state/parts").iterdir())
    for path in (run / "checkpoints/000002/training_state/parts").glob("*.distcp"):
        assert path.stat().st_size == pytest.approx(parts / 2, rel=0.1), "each process holds half the moments"
    run_one(["--resume", str(run), "--steps=4", "--parallel=auto"])
    assert_same_run(run, alone)


def test_lora_on_two_processes_that_go_on_from_one(workshop: Any, alone_lora: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_one(flags(workshop, run, **LORA, steps=2))
    run_ranks(["--resume", str(run), "--steps=4", "--parallel=fsdp", "--gradient_accumulation_steps=2"])
    assert_same_run(run, alone_lora)


def test_sigterm_saves_and_another_number_of_processes_goes_on(workshop: Any, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = {"steps": 40, "policy__scheduler_decay_steps": 40, "save_freq": 1000, "eval_steps": 0}
    process = launch(flags(workshop, run, **words, parallel="fsdp"))
    wait_for_step(run, 3, process)
    process.send_signal(signal.SIGTERM)
    code, told = finish(process)
    assert code != 0
    assert "stopped by SIGTERM after step" in told
    (saved,) = list_checkpoints(run)
    assert not list((run / "checkpoints").glob(".partial*"))
    step = int(saved.name)
    assert 3 <= step < 40
    more = f"--steps={step + 1}"
    run_one(["--resume", str(run), more, "--parallel=auto", "--policy.scheduler_decay_steps=40"])
    run_one(flags(workshop, whole, **{**words, "steps": step + 1}))
    assert_same_run(run, whole)


def test_a_process_that_is_killed_ends_the_run_at_once(workshop: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = launch(flags(workshop, run, steps=1000, save_freq=3, eval_steps=0, parallel="ddp"))
    wait_for_step(run, 4, process)
    os.kill(process_of_rank(1, process.pid), signal.SIGKILL)
    killed = time.monotonic()
    code, told = finish(process)
    assert code != 0
    assert time.monotonic() - killed < 60
    assert "rank      : 1" in told
    assert "-9" in told
    for folder in list_checkpoints(run):
        assert (folder / "training_state" / "state.json").is_file()
    assert list_checkpoints(run)


def test_the_rank_with_other_data_is_named(workshop: Any, tmp_path: Path) -> None:
    for name, episodes in (("left", (12, 9, 11, 8, 10, 13)), ("right", (12, 9, 11, 8, 10, 9))):
        fakes.write_dataset(tmp_path / name / "data", episodes=episodes)
    wrapper = tmp_path / "start.sh"
    wrapper.write_text(
        f'cd {tmp_path}/$([ "$RANK" = 0 ] && echo left || echo right) && exec {sys.executable} -m pi05 "$@"\n'
    )
    words = flags(workshop, tmp_path / "run", dataset__root="data", parallel="ddp")
    code, told = finish(launch(words, wrapper=wrapper))
    assert code != 0
    assert "the data set is not the same on every machine" in told
    assert re.search(r"rank 1 \(\S+\): .*frames 59 instead of 63", told), told
    assert told.count("error: ") == 1, "one process tells"
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_rank_with_other_software_is_named(workshop: Any, tmp_path: Path) -> None:
    other = tmp_path / "site" / "pyarrow-99.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pyarrow\nVersion: 99.0\n")
    wrapper = tmp_path / "start.sh"
    wrapper.write_text(
        f'[ "$RANK" = 1 ] && export PYTHONPATH={tmp_path}/site:$PYTHONPATH\nexec {sys.executable} -m pi05 "$@"\n'
    )
    code, told = finish(launch(flags(workshop, tmp_path / "run"), wrapper=wrapper))
    assert code != 0
    assert re.search(r"rank 1 \(\S+\): pyarrow 99.0 instead of \d", told), told


def test_a_full_disk_is_told_once_and_leaves_the_checkpoint_before(workshop: Any, tmp_path: Path) -> None:
    """A limit on the size of a file stands in for the disk: the weights fit below it, the moments do not."""
    run = tmp_path / "run"
    words = {"ema__enable": True, "parallel": "fsdp", "eval_steps": 0}
    run_ranks(flags(workshop, run, **words, steps=2, save_freq=2))
    size = int(1.2 * (run / "checkpoints/000002/model.safetensors").stat().st_size)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    code, told = finish(launch(["--resume", str(run), "--steps=4"], preexec_fn=limit))
    assert code != 0
    assert "the checkpoint 000004 could not be written; earlier checkpoints are intact" in told
    assert told.count("error: ") == 1, told
    assert "CheckpointException" not in told, "torch's own"
    assert [path.name for path in list_checkpoints(run)] == ["000002"]
    assert not list((run / "checkpoints").glob(".partial*"))


@pytest.mark.slow
def test_two_machines_split_the_network_inside_each(workshop: Any, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = flags(workshop, run, ema__enable=True, parallel="hsdp", gradient_accumulation_steps=1)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes=2", "--nproc-per-node=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}"]
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *meeting, "--rdzv-id=test", "-m", "pi05", "train", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for _ in range(2)
    ]
    told = [finish(machine) for machine in machines]
    assert [code for code, _ in told] == [0, 0], told
    assert "hsdp, 4 processes on 2 machines, each with 1/2 of weights" in told[0][1] + told[1][1]
    assert_same_run(run, alone)


@pytest.mark.slow
def test_four_processes_go_on_from_two(workshop: Any, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_ranks(flags(workshop, run, ema__enable=True, parallel="fsdp", gradient_accumulation_steps=2, steps=2))
    run_ranks(["--resume", str(run), "--steps=4", "--gradient_accumulation_steps=1"], processes=4)
    assert_same_run(run, alone)


@pytest.mark.slow
def test_a_kill_while_saving_leaves_the_checkpoint_before(workshop: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = launch(flags(workshop, run, steps=1000, save_freq=1, eval_steps=0, parallel="fsdp", keep_checkpoints=2))
    wait_for_step(run, 3, process)
    ranks = [process_of_rank(rank, process.pid) for rank in (0, 1)]
    limit = time.monotonic() + SECONDS
    while not list((run / "checkpoints").glob(".partial-*/training_state/parts")) and time.monotonic() < limit:
        time.sleep(0.001)
    for each in ranks:
        os.kill(each, signal.SIGKILL)
    finish(process)
    assert list((run / "checkpoints").glob(".partial-*")), "killed in the middle of it"
    step = int(list_checkpoints(run)[-1].name)
    run_one(["--resume", str(run), f"--steps={step + 1}", "--parallel=auto"])
    whole = tmp_path / "whole"
    run_one(flags(workshop, whole, steps=step + 1, policy__scheduler_decay_steps=4, save_freq=1000, eval_steps=0))
    assert records(run)[("train", step + 1)]["loss"] == pytest.approx(
        records(whole)[("train", step + 1)]["loss"], rel=TOLERANCE
    )


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
