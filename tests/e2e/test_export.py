"""A trained run, exported, moved to a place without network, caches or other people's programs, and used there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pi05.cli import main
from pi05.policy import Policy

ALONE = '''
"""Imported by Python before anything else: no network, and none of the programs that a policy must not need."""
import socket, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"transformers", "huggingface_hub", "lerobot", "openpi", "jax", "peft", "datasets"}:
            raise ImportError(f"{name} is not on this machine")

def refuse(*_, **__):
    raise OSError("there is no network on this machine")

sys.meta_path.insert(0, Absent())
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of three steps on four demonstrations of the tabletop."""
    root = tmp_path_factory.mktemp("trained")
    assert main(["collect", "--episodes=4", f"--output={root / 'demos'}"]) == 0
    flags = [
        *("train", "--preset=tiny", "--steps=3", "--batch_size=4", "--threads=1", "--eval_steps=0"),
        *(f"--dataset.root={root / 'demos'}", f"--dataset.cache_dir={root / 'cache'}", f"--output_dir={root / 'run'}"),
    ]
    assert main(flags) == 0
    return root / "run"


@pytest.fixture(scope="module")
def island(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty home on a machine that has nothing else."""
    home = tmp_path_factory.mktemp("island")
    (home / "site").mkdir()
    (home / "site" / "sitecustomize.py").write_text(ALONE)
    return home


def there(island: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python from the island, which is also its working directory."""
    environment = {
        "HOME": str(island),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(island / "site"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run([sys.executable, *words], cwd=island, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("to", ["lerobot", *(pytest.param(to, marks=pytest.mark.slow) for to in ("openpi", "pi05"))])
def test_an_exported_run_works_on_another_machine(run: Path, island: Path, tmp_path: Path, to: str) -> None:
    exported = tmp_path / "first" / to
    assert main(["export", f"--to={to}", str(run), str(exported)]) == 0
    assert (run / "checkpoints" / "000003").is_dir()
    moved = island / f"policy-{to}"
    shutil.move(exported, moved)

    if to == "lerobot":
        answer = there(island, "-m", "pi05", "export", "--relocate", f"policy-{to}")
        assert answer.returncode == 0, answer.stderr
        steps = json.loads((moved / "policy_preprocessor.json").read_text())["steps"]
        assert steps[5]["config"]["tokenizer_name"] == str(moved / "tokenizer")

    answer = there(island, "-m", "pi05", "export", "--verify", f"policy-{to}", f"--source={run}")
    assert answer.returncode == 0, answer.stderr
    assert "source" in answer.stdout

    answer = there(island, "-m", "pi05", "inspect", f"policy-{to}", "--json")
    assert answer.returncode == 0, answer.stderr
    facts = json.loads(answer.stdout)
    assert (facts["step"], facts["policy"]["fps"]) == (3, 10)

    if to == "lerobot":  # the others are loaded in the same way below
        words = ["-m", "pi05", "eval", f"--policy.path=policy-{to}", "--env=tabletop", "--episodes=2", "--films=0"]
        answer = there(island, *words, "--threads=1", f"--output_dir=eval-{to}")
        assert answer.returncode == 0, answer.stderr
        assert json.loads((island / f"eval-{to}" / "results.json").read_text())["success"]["trials"] == 2

    program = (
        "import sys, numpy as np, torch; from pi05 import Policy\n"
        "policy = Policy.load(sys.argv[1]); side = policy.processor.image_size\n"
        "views = {key: np.full((side, side, 3), 90, np.uint8) for key in policy.processor.slots.keys}\n"
        "state = np.zeros(3, np.float32); noise = torch.zeros(1, *policy.noise_shape)\n"
        "observation = {**views, 'observation.state': state, 'task': 'put the red block on the blue plate'}\n"
        "np.save(sys.argv[2], policy.infer(observation, noise=noise)['actions'])\n"
        "assert not {'transformers', 'huggingface_hub', 'jax'} & set(sys.modules)"
    )
    answer = there(island, "-c", program, f"policy-{to}", "actions.npy")
    assert answer.returncode == 0, answer.stderr
    policy = Policy.load(run)
    side = policy.processor.image_size
    views = {key: np.full((side, side, 3), 90, np.uint8) for key in policy.processor.slots.keys}
    observation = {**views, "observation.state": np.zeros(3, np.float32), "task": "put the red block on the blue plate"}
    wanted = policy.infer(observation, noise=torch.zeros(1, *policy.noise_shape))["actions"]
    np.testing.assert_allclose(np.load(island / "actions.npy"), wanted, rtol=0, atol=1e-6)


def test_cameras_of_the_data_set_reach_lerobot(run: Path, tmp_path: Path) -> None:
    assert main(["export", "--to=lerobot", str(run), str(tmp_path / "out")]) == 0
    demos = json.loads((run.parent / "demos" / "meta" / "info.json").read_text())["features"]
    features = json.loads((tmp_path / "out" / "config.json").read_text())["input_features"]
    for key in ("observation.images.scene", "observation.images.wrist"):
        height, width, _ = demos[key]["shape"]
        assert features[key]["shape"] == [3, height, width]


def test_an_interrupted_export_leaves_nothing(run: Path, island: Path, tmp_path: Path) -> None:
    """Ctrl-C while the folder is being written, from outside, as a user presses it."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "pi05", "export", "--to=pi05", str(run), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    if process.returncode == 0:  # it was quicker than the signal
        assert list(tmp_path.iterdir()) == [out]
    else:
        assert process.returncode == 130, errors
        assert list(tmp_path.iterdir()) == []
