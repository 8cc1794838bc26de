"""A process that differs, dies or hangs ends the run of several with its reason, and nothing that was saved is lost."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import fakes
import pytest
from launched import (
    SECONDS,
    TOLERANCE,
    finish,
    flags,
    launch,
    process_of_rank,
    records,
    run_one,
    run_ranks,
    wait_for_step,
)

from pi05.checkpoint.run_folder import list_checkpoints

LIMIT = 15
"""Seconds."""


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


@pytest.mark.slow
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


@pytest.mark.slow
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
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_hangs_ends_the_run_when_its_time_is_over(workshop: Any, tmp_path: Path, stopped: int) -> None:
    """The limit is half an hour; the wrapper makes it seconds."""
    run, wrapper = tmp_path / "run", tmp_path / "start.sh"
    program = (
        "import datetime, sys; from pi05 import cli; from pi05.train.parallel import ranks; "
        f"ranks.TIMEOUT = datetime.timedelta(seconds={LIMIT}); sys.exit(cli.main())"
    )
    wrapper.write_text(f'exec {sys.executable} -c "{program}" "$@"\n')
    process = launch(flags(workshop, run, steps=100_000, save_freq=3, eval_steps=0, parallel="ddp"), wrapper=wrapper)
    wait_for_step(run, 4, process)
    os.kill(process_of_rank(stopped, process.pid), signal.SIGSTOP)
    began = time.monotonic()
    code, told = finish(process)
    assert code != 0
    assert LIMIT - 5 < time.monotonic() - began < LIMIT + 90, "torchrun gives a stopped process another 30 seconds"
    assert "error: another process of the run ended without a word, or hangs" in told, told
    assert list_checkpoints(run)
