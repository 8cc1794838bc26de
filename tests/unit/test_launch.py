"""The commands that launch/skypilot.yaml starts on each machine; a stand-in for Python tells its arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from fake_skypilot import shell_lines, variables

pytestmark = pytest.mark.process


def command_on(rank: int, tmp_path: Path) -> list[str]:
    """Return the command of one machine of two, with the volume under `tmp_path`."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    python = programs / "python"
    python.write_text('#!/bin/bash\n[ "${*: -1}" = --help ] && echo --shutdown-timeout && exit\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    told = variables(rank, "libero", "--preset=sim --steps=7", ("10.0.0.1", "10.0.0.2"), gpus=8)
    done = subprocess.run(
        ["bash", "-c", shell_lines({"/runs/": f"{tmp_path}/runs/"})],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": f"{programs}:{os.environ['PATH']}", **told},
    )
    return done.stdout.split("\n")[:-1]


def test_every_machine_meets_at_the_first_with_its_own_rank(tmp_path: Path) -> None:
    for rank in (0, 1):
        words = command_on(rank, tmp_path)
        assert {"--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=8", "--master-addr=10.0.0.1"} <= set(words)
        assert "--shutdown-timeout=100" in words, "the time for a checkpoint"
        assert words[words.index("pi05") + 1 :] == [
            "train",
            f"--output_dir={tmp_path}/runs/libero",
            "--dataset.root=/data/dataset",
            "--policy.path=/data/base",
            "--preset=sim",
            "--steps=7",
        ]


def test_a_run_on_the_volume_is_resumed(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "libero"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    words = command_on(0, tmp_path)
    assert words[words.index("pi05") + 1 :] == ["train", "--resume", str(run)]
