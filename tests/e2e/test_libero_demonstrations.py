"""LIBERO through the real commands: collected, killed in the middle, resumed, replayed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from libero_here import needs_libero

from pi05 import Dataset

pytestmark = [needs_libero, pytest.mark.slow, pytest.mark.process]
TASK = "pick_up_the_butter_and_place_it_in_the_basket"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pi05", *words]


def collection(output: Path) -> list[str]:
    return command(
        "collect",
        "--env=libero",
        "--suite=libero_object",
        f"--tasks={TASK}",
        "--episodes-per-task=2",
        "--image-size=32",
        "--workers=1",
        f"--output={output}",
    )


def test_a_collection_goes_on_after_a_kill_and_its_actions_succeed_again(tmp_path: Path) -> None:
    output, staged = tmp_path / "data", tmp_path / "data.collecting"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(collection(output), env=environment)
    while not list(staged.glob("task000-seed*.npz")):
        assert process.poll() is None, "it ended before its first episode"
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert (staged / "task000-seed000000.npz").is_file()
    resumed = subprocess.run(collection(output), env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "wrote 2 demonstrations" in resumed.stdout
    assert not staged.exists()
    data = Dataset(output)
    assert (data.num_episodes, data.fps, list(data.tasks)) == (2, 20, [TASK.replace("_", " ")])
    assert data.camera_keys == ["observation.images.image", "observation.images.image2"]
    assert (data.states().shape[1], data.actions().shape[1]) == (8, 7)
    assert not data.actions()[:, 3:6].any()
    replayed = subprocess.run(command("replay", str(output)), env=environment, capture_output=True, text=True)
    assert replayed.returncode == 0, replayed.stderr
    assert "as executed  2 of 2 episodes succeed again (100%)" in replayed.stdout
