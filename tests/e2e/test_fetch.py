"""From names on a hub to a run, as users type it; a bundle, and then no connection at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import TOKEN, FakeHub, content
from fetching import no_sockets, use_home

from pi05.checkpoint.lerobot.tokenizer_name import PREPROCESSOR, point_tokenizer
from pi05.checkpoint.locate import locate
from pi05.cli import main
from pi05.export.export import export_policy
from pi05.sources import resolve as resolve_module
from pi05.sources.names import PALIGEMMA
from pi05.sources.receipt import verify
from pi05.train.config import TINY_BASE

BASE, DATA = "lerobot/pi05_base", "HuggingFaceVLA/libero"
TYPED = (
    f"--policy.type=pi05 --dataset.repo_id={DATA} --policy.pretrained_path={BASE} --policy.device=cpu "
    "--policy.compile_model=true --policy.gradient_checkpointing=true --policy.dtype=bfloat16 --steps=3000 "
    "--batch_size=32 --output_dir=outputs/pi05 --wandb.enable=true --wandb.project=pi05 --policy.repo_id=me/pi05 "
    "--policy.push_to_hub=false"
).split()
"""The line of `lerobot-train` that users know, with a CPU in the place of the GPU."""
SMALL = ["--steps=2", "--batch_size=2", "--eval_steps=0", "--threads=1", "--num_workers=0", "--wandb.mode=disabled"]
SMALL += ["--policy.compile_model=false", "--policy.chunk_size=8", "--policy.scheduler_warmup_steps=0"]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Return small stand-ins for what lies on the hub: a LeRobot base without tokenizer, the tokenizer, a data set."""
    folder = tmp_path_factory.mktemp("stock")
    export_policy(locate(TINY_BASE), folder / "base", to="lerobot", say=lambda _: None)
    point_tokenizer(folder / "base", PALIGEMMA)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "base" / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "base" / "tokenizer", ignore_errors=True)
    tokenizer = {"tokenizer.json": (TINY_BASE / "tokenizer.json").read_bytes(), "tokenizer_config.json": b"{}"}
    assert main(["collect", "--episodes=3", f"--output={folder / 'data'}"]) == 0
    return {
        BASE: content(folder / "base"),
        PALIGEMMA: {**tokenizer, "model-00001-of-00003.safetensors": b"eleven gigabytes" * 100},
        f"datasets/{DATA}": content(folder / "data"),
    }


@pytest.fixture
def hub(stock: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """Serve them to somebody who has a home and a working folder of their own, and has accepted the licence."""
    use_home(monkeypatch, tmp_path / "home")
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("PI05_CACHE", str(tmp_path / "frames"))
        for name, files in stock.items():
            server.publish(name, files, gated=name == PALIGEMMA)
        server.repositories[PALIGEMMA].accepted = {"ada"}
        yield server


def test_the_line_that_users_know(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resolve_module._told.clear()
    assert main(["train", *TYPED, *SMALL]) == 0
    output = capsys.readouterr().err
    for name in (BASE, DATA, PALIGEMMA):
        assert output.count(f"{name} is ") == 1, "said in one line"
    run = tmp_path / "lab" / "outputs" / "pi05"
    assert (run / "checkpoints" / "last" / "model.safetensors").is_file()
    sources = json.loads((run / "sources.json").read_text())
    keys = {"base": BASE, "dataset": f"datasets/{DATA}", "tokenizer": PALIGEMMA}
    assert {what: facts["commit"] for what, facts in sources.items()} == {
        what: hub.repositories[key].sha("main") for what, key in keys.items()
    }
    assert sources["base"]["files"]["model.safetensors"]["tag"]
    config = json.loads((run / "config.json").read_text())
    assert (config["dataset"]["repo_id"], config["policy"]["repo_id"]) == (DATA, "me/pi05")
    assert not hub.asked("GET", "model-00001-of-00003"), "the tokenizer's files only"
    assert not hub.asked("POST", ""), "nothing is published"


def test_the_licence_is_asked_for_before_the_weights(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repositories[PALIGEMMA].accepted = set()
    assert main(["train", *TYPED, *SMALL]) == 2
    error = capsys.readouterr().err
    assert f"accept the licence at https://huggingface.co/{PALIGEMMA}" in error
    assert not hub.asked("GET", f"{BASE}/resolve/.*model.safetensors"), "not after 14 GB"
    assert not Path("outputs").exists()


def test_a_bundle_trains_evaluates_and_exports_without_a_connection(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    flags = [word for word in TYPED if "wandb" not in word and "output_dir" not in word]
    assert main(["fetch", "--bundle", str(bundle), *flags, "--dataset.episodes=[0,1]"]) == 0
    assert {path.name for path in bundle.iterdir()} == {
        *("pi05_base_model", "paligemma_model", "local_dataset", "train.sh", "pi05_fetch.json")
    }
    verify(bundle)
    script = (bundle / "train.sh").read_text()
    assert all(
        word in script for word in ("--offline", "--policy.path=pi05_base_model", "--dataset.root=local_dataset")
    )
    assert "--policy.pretrained_path" not in script
    assert main(["fetch", "--bundle", str(bundle), *flags, "--dataset.episodes=[0,1]"]) == 0, "again: compared, kept"
    os.rename(bundle, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("HF_ENDPOINT")
    words = [word for line in script.splitlines() if (word := line.strip(' \\"')).startswith("--")]
    words = [word.removesuffix(' "$@').strip("'") for word in words]
    with no_sockets(monkeypatch):
        assert main(["train", *words, *SMALL, "--output_dir=run"]) == 0
        evaluated = ["--env=tabletop", "--episodes=1", "--films=0", "--threads=1", "--output_dir=report"]
        assert main(["eval", "--offline", "--policy.path=run", *evaluated]) == 0
        assert main(["export", "--to=lerobot", "run", "exported"]) == 0
        assert main(["fetch", "--verify", "."]) == 0
    assert main(["fetch", "--relocate", "."]) == 0
    name = json.loads(Path("pi05_base_model", PREPROCESSOR).read_text())
    assert str(tmp_path / "elsewhere" / "paligemma_model") in json.dumps(name)
    assert main(["fetch", "--verify", "."]) == 0
    assert "files are those of a bundle" in capsys.readouterr().out


FORBIDDEN = """
import socket
def refuse(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        raise SystemExit(f"a connection was opened to {address}")
    return connect(self, address)
connect, socket.socket.connect = socket.socket.connect, refuse
"""


@pytest.mark.slow
def test_the_script_of_a_bundle_runs_where_no_connection_can_be_opened(hub: FakeHub, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    assert main(["fetch", "--bundle", str(bundle), *TYPED, "--wandb.enable=false"]) == 0
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(FORBIDDEN)
    program = tmp_path / "pi05"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pi05 "$@"\n')
    program.chmod(0o755)
    paths = os.pathsep.join([str(tmp_path / "watch"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "PI05": str(program), "OMP_NUM_THREADS": "1"}
    command = ["bash", str(bundle / "train.sh"), *SMALL]
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0:
        command = ["unshare", "-rn", *command]  # a network namespace of its own, without even a loopback
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert (bundle / "outputs" / "pi05" / "checkpoints" / "last").exists()


def test_a_kill_in_the_middle_and_the_same_command_again(hub: FakeHub, start: Any) -> None:
    never = threading.Event()
    hub.fail("GET", "/resolve/.*model.safetensors", stop_at=200_000, hold=never)
    process = start("fetch", "base")
    part = None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        part = next(
            (p for p in Path("pi05_base_model/.pi05-fetch").glob("*.part") if p.stat().st_size >= 200_000), None
        )
        if part is not None:
            break
        time.sleep(0.05)
    assert part is not None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    never.set()
    assert not Path("pi05_base_model/model.safetensors").exists()
    first, second = start("fetch", "base"), start("fetch", "base")  # two at the same time
    for output in (first.communicate(timeout=120)[0], second.communicate(timeout=120)[0]):
        assert "verified" in output
    assert (first.returncode, second.returncode) == (0, 0)
    verify(Path("pi05_base_model"))
    asked = hub.asked("GET", f"{BASE}/resolve/.*model.safetensors")
    assert len(asked) == 2
    assert int(asked[1].headers["Range"][6:-1]) >= 200_000
