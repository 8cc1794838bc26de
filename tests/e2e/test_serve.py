"""`pi05 serve` as a process: started, asked, interrupted, and everything that a user can type wrongly."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from fake_policies import make_libero_policy, save_policy

from pi05.cli import main
from pi05.data.robot.stored_observations import OBSERVATIONS, read_observations
from pi05.policy import Policy
from pi05.serve.client import PolicyClient
from pi05.serve.config import KEY_VARIABLE
from pi05.serve.engine import example_observation
from pi05.types import STATE

KEY = "correct horse battery"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    return save_policy(folder / "checkpoint", make_libero_policy(fakes.write_tokenizer(folder / "tokenizer.json")))


NUM_STEPS = 2


@contextmanager
def serving(policy: Path, *flags: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command; yield the process and its address once it is ready."""
    words = [
        f"--policy.path={policy}",
        "--policy.device=cpu",
        f"--policy.num_inference_steps={NUM_STEPS}",
        "--threads=1",
        "--port=0",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "pi05", "serve", *words, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line
            if match := re.match(r"ready +(wss?://\S+?),", line):
                assert re.search(r"^warm ", said, re.M), said  # before anybody is let in
                yield process, match[1]
                break
        else:
            pytest.fail(said)
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


@pytest.mark.process
@pytest.mark.parametrize("end", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_server_from_its_start_to_its_end(policy: Path, end: signal.Signals) -> None:
    observation = example_observation(Policy.load(policy))
    with serving(policy, f"--key_file={_key(policy.parent)}") as (process, address):
        with PolicyClient(address, key=KEY, control_rate_hz=20.0, deadline_ms=60_000) as robot:
            assert robot.next_action(observation).shape == (7,)
        process.send_signal(end)
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait(30) == 0
        assert "stopped; 1 observations answered, 0 messages refused" in rest
        assert "Traceback" not in rest


@pytest.fixture(scope="module")
def folders(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, and what `pi05 export` writes of it for LeRobot and for openpi."""
    place = tmp_path_factory.mktemp("folders")
    made = {name: place / name for name in ("run", "lerobot", "openpi")}
    assert main(["train", *workshop.flags(made["run"], steps=2, save_freq=2, eval_steps=0)]) == 0
    for to in ("lerobot", "openpi"):
        assert main(["export", f"--to={to}", str(made["run"]), str(made[to])]) == 0
    return made


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as the server has: sums in another order differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.process
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["run", "lerobot", "openpi"])
def test_every_kind_of_folder_is_served(workshop: Any, folders: dict[str, Path], kind: str) -> None:
    """The answer over the socket is that of `Policy.infer` on the same folder, bit for bit."""
    told: dict[str, Any] = {}
    if kind == "openpi":  # what its folders do not tell
        told = {"horizon": 10, "tokenizer_path": workshop.tokenizer, "prompt_format": "state"}
    names = {"horizon": "policy.chunk_size", "tokenizer_path": "policy.tokenizer_path"}
    flags = [f"--{names.get(name, name)}={value}" for name, value in told.items()]
    policy = Policy.load(folders[kind], **told)
    stored = read_observations(folders["run"] / "step0" / OBSERVATIONS)[0]
    cameras = dict(zip(policy.processor.slots.keys, (stored[name] for name in fakes.CAMERAS), strict=True))
    observation = {**cameras, STATE: stored[STATE], "task": stored["task"]}
    want = policy.infer(observation, num_steps=NUM_STEPS, generator=torch.Generator().manual_seed(5))["actions"]
    assert np.ptp(want) > 0
    with serving(folders[kind], *flags) as (_, address), PolicyClient(address, deadline_ms=60_000) as robot:
        assert [camera.name for camera in robot.contract.cameras] == list(policy.processor.slots.keys)
        got = robot.infer(observation, seed=5)["actions"]
    np.testing.assert_array_equal(got, want)


def _key(folder: Path) -> Path:
    file = folder / "key"
    file.write_text(KEY)
    return file


def complaint(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["serve", *words]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert "\n  to do:  " in message
    return message


def test_what_a_user_can_type_wrongly(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    path = f"--policy.path={policy}"
    assert "pi05 serve needs a policy" in complaint([], capsys)
    assert "'8000' is no flag" in complaint([path, "8000"], capsys)
    assert "--prot" in complaint([path, "--prot=8000"], capsys)
    assert "--port cannot be 70000" in complaint([path, "--port=70000"], capsys)
    assert "there is no key" in complaint([path, "--host=0.0.0.0"], capsys)
    assert "cannot read the key" in complaint([path, f"--key_file={tmp_path / 'none'}"], capsys)
    assert "--tls_key" in complaint([path, "--tls_cert=cert.pem"], capsys)
    assert "cannot read the certificate" in complaint([path, "--tls_cert=cert.pem", "--tls_key=key.pem"], capsys)
    assert "no checkpoint" in complaint([f"--policy.path={tmp_path}", "--port=0"], capsys)


def test_a_port_that_is_taken_is_told_before_the_weights_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = complaint(["--policy.path=/nowhere", f"--port={port}"], capsys)
    assert f"cannot listen on 127.0.0.1:{port}" in message


def test_without_the_extra_it_says_how_to_install_it(
    policy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    assert "pip install 'pi05[serve]'" in complaint([f"--policy.path={policy}"], capsys)


@pytest.mark.slow
def test_a_run_stores_what_its_server_tests_itself_with(
    workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", *workshop.flags(run, steps=2, save_freq=2)]) == 0
    observations = read_observations(run / "step0" / OBSERVATIONS)
    assert [sorted(one) for one in observations] == [[*fakes.CAMERAS, "observation.state", "task"]] * 2
    assert observations[0][fakes.CAMERAS[0]].shape == (48, 64, 3)
    capsys.readouterr()
    assert main(["serve", f"--policy.path={run}", "--policy.device=cpu", "--selftest"]) == 0
    assert "2 observations, stored by the run" in capsys.readouterr().out
