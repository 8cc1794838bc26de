"""`pi05 push` and `--policy.push_to_hub` as processes of their own, against a hub on localhost."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_hub import TOKEN, FakeHub, Repository, User, content

from pi05 import Policy
from pi05.cli import main

CARD = "README.md"


@pytest.fixture(scope="module")
def trained(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "cubes"
    flags = workshop.flags(folder, steps=4, log_freq=2, eval_steps=4, save_freq=2, dataset__repo_id="lab/cubes")
    assert main(["train", *flags]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished run."""
    return Path(shutil.copytree(trained, tmp_path / "cubes", symlinks=True))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


@pytest.fixture
def pi05(start: Any, hub: FakeHub, tmp_path: Path) -> Any:
    """Run `pi05 …` to its end with a login at the hub; return exit code and output."""

    def call(*words: str, token: str | None = TOKEN, **environment: str) -> tuple[int, str]:
        login = {"HF_TOKEN": token} if token is not None else {}
        home = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        process = start(*words, **home, **login, **environment)
        output = process.communicate(timeout=240)[0]
        assert TOKEN not in output
        return process.returncode, output

    return call


def observation(policy: Policy) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    cameras = [camera for camera in policy.processor.slots.to_dict().values() if isinstance(camera, str)]
    pictures = {camera: rng.integers(0, 256, (48, 48, 3), dtype=np.uint8) for camera in cameras}
    return {**pictures, "observation.state": rng.normal(size=4).astype(np.float32), "task": "put it there"}


def same_actions(one: Path, other: Path) -> bool:
    answers = []
    for folder in (one, other):
        policy = Policy.load(folder)
        noise = np.random.default_rng(1).normal(size=(1, *policy.noise_shape)).astype(np.float32)
        import torch

        answers.append(policy.infer(observation(policy), noise=torch.from_numpy(noise))["actions"])
    return bool(np.abs(answers[0] - answers[1]).max() < 1e-5)


def no_trace_of_this_machine(files: dict[str, bytes], *places: Path) -> bool:
    words = [TOKEN.encode(), *(str(place).encode() for place in places)]
    return not any(word in data for data in files.values() for word in words)


def test_a_run_is_published(run: Path, hub: FakeHub, pi05: Any, tmp_path: Path) -> None:
    code, output = pi05("push", str(run), "--repo_id=ada/cubes", "--license=apache-2.0", "--tags=[arm]", "--dry_run")
    assert code == 0, output
    assert hub.requests == []
    assert "nothing was sent" in output
    would = content(run / "hub" / "files")
    assert all(name in output for name in would)

    code, output = pi05("push", str(run), "--repo_id=ada/cubes", "--license=apache-2.0", "--tags=[arm]")
    assert code == 0, output
    files = hub.files("ada/cubes")
    assert files == would
    assert f"published: {hub.url}/ada/cubes ({len(files)} files" in output
    needed = {"config.json", "model.safetensors", "policy_preprocessor.json", "policy_postprocessor.json", CARD}
    assert needed | {"tokenizer.json", "tokenizer_config.json"} <= set(files)
    assert 'tokenizer_name": "ada/cubes"' in files["policy_preprocessor.json"].decode()
    assert no_trace_of_this_machine(files, run, tmp_path, Path.home() / "")

    for name, data in files.items():
        (tmp_path / "downloaded" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "downloaded" / name).write_bytes(data)
    assert same_actions(run, tmp_path / "downloaded")
    assert not (run / "hub" / "files").exists(), "the copy is gone when all has arrived"
    state = json.loads((run / "hub" / "state.json").read_text())
    assert (state["status"], state["url"]) == ("published", f"{hub.url}/ada/cubes")

    matter = yaml.safe_load(files[CARD].decode().split("---")[1])
    assert (matter["license"], matter["library_name"], matter["datasets"]) == ("apache-2.0", "lerobot", ["lab/cubes"])
    assert {"robotics", "lerobot", "pi05", "vla", "arm"} == set(matter["tags"])
    assert "base_model" not in matter, "from random weights"


@pytest.mark.slow
def test_one_checkpoint_to_a_branch_of_a_private_repository(run: Path, hub: FakeHub, pi05: Any) -> None:
    words = ["--repo_id=cubes", "--private", "--revision=early", "--dtype=bfloat16", "--message=Half way"]
    code, output = pi05("push", str(run / "checkpoints" / "000002"), *words)
    assert code == 0, output
    repository = hub.repositories["ada/cubes"]
    assert repository.private
    assert repository.head("main") == {}
    assert "step 2 of 4" in repository.head("early")[CARD].decode()
    assert len(repository.head("early")["model.safetensors"]) < 7_000_000, "8.4 MB in float32"
    assert repository.messages == ["Half way"]


@pytest.mark.slow
def test_an_upload_that_failed_continues(run: Path, hub: FakeHub, pi05: Any) -> None:
    before = content(run)
    hub.fail("POST", "/commit/", 403)
    code, output = pi05("push", str(run), "--repo_id=ada/cubes")
    assert code == 2
    assert "Traceback" not in output
    assert f"pi05 push {run} --repo_id=ada/cubes" in output
    assert content(run).items() >= before.items(), "the run is as it was"
    sent = len(hub.asked("PUT", "/storage/"))
    assert sent > 0

    code, output = pi05("push", str(run), "--repo_id=ada/cubes")
    assert code == 0, output
    assert "continuing with" in output
    assert len(hub.asked("PUT", "/storage/")) == sent, "what has arrived is not sent again"
    assert content(run).items() >= before.items()


@pytest.mark.slow
def test_ctrl_c_during_the_upload(run: Path, hub: FakeHub, pi05: Any, start: Any, tmp_path: Path) -> None:
    hold = threading.Event()
    hub.fail("POST", "/commit/", hold=hold)
    home = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    process = start("push", str(run), "--repo_id=ada/cubes", HF_TOKEN=TOKEN, **home)
    deadline = time.monotonic() + 120
    while not hub.asked("POST", "/commit/") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    hold.set()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert f"Continue with: pi05 push {run} --repo_id=ada/cubes" in output
    sent = len(hub.asked("PUT", "/storage/"))
    assert pi05("push", str(run), "--repo_id=ada/cubes")[0] == 0
    assert len(hub.asked("PUT", "/storage/")) == sent


@pytest.mark.parametrize(
    ("words", "token", "found"),
    [
        (["--repo_id=ada/cubes"], "hf_wrong", "401"),
        (["--repo_id=ada/cubes", "--adapter_only", "--base_model=a/b"], TOKEN, "no adapter to publish"),
        (["--repo_id=cubes", "--dry_run"], TOKEN, "owner"),
    ],
)
def test_what_cannot_be_published(
    words: list[str],
    token: str,
    found: str,
    run: Path,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(run / "no token"))
    assert main(["push", str(run), f"--endpoint={hub.url}", *words]) == 2
    error = capsys.readouterr().err
    assert found in error
    assert "to do:" in error
    assert hub.repositories == {}


@pytest.mark.slow
def test_what_was_prepared_is_taken_only_for_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["push", str(run), "--repo_id=ada/cubes", "--dry_run"]
    for more, continued in ([], False), (["--license=mit"], True), (["--dtype=bfloat16"], False), ([], False):
        assert main([*words, *more]) == 0
        assert ("continuing with" in capsys.readouterr().out) == continued, more
    (run / "checkpoints" / "last" / "model.safetensors").touch()
    assert main(words) == 0
    assert "continuing with" not in capsys.readouterr().out


@pytest.mark.slow
def test_an_adapter(
    workshop: Any, run: Path, hub: FakeHub, pi05: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A LoRA run is published merged, or on request as an adapter that names its base on the hub."""
    flags = workshop.flags(tmp_path / "lora", policy__path=run, method="lora", steps=2, eval_steps=0)
    flags = [flag for flag in flags if not flag.startswith(("--from_scratch", "--policy.tokenizer_path"))]
    assert main(["train", *flags]) == 0
    code, output = pi05("push", str(tmp_path / "lora"), "--repo_id=ada/merged")
    assert code == 0, output
    assert "model.safetensors" in hub.files("ada/merged")
    assert main(["push", str(tmp_path / "lora"), "--repo_id=ada/merged", "--adapter_only", "--dry_run"]) == 2
    assert "--base_model=OWNER/NAME" in capsys.readouterr().err
    adapter = ["--repo_id=ada/merged", "--adapter_only", "--base_model=ada/base", "--revision=adapter"]
    code, output = pi05("push", str(tmp_path / "lora"), *adapter)
    assert code == 0, output
    files = hub.files("ada/merged", "adapter")
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files, "the merged weights of the branch it was made from are removed"
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "ada/base"
    assert json.loads(files["pi05.json"])["base"]["path"] == "ada/base"
    assert no_trace_of_this_machine(files, tmp_path, workshop.dataset.parent)
    matter = yaml.safe_load(files[CARD].decode().split("---")[1])
    assert (matter["base_model"], matter["base_model_relation"]) == ("ada/base", "adapter")


def test_a_folder_that_is_no_run(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "nothing", trained / "step0"):
        assert main(["push", str(path), "--repo_id=ada/cubes"]) == 2
        assert "not a run that could be published" in capsys.readouterr().err


class TestAtTheEndOfTraining:
    @staticmethod
    def flags(workshop: Any, run: Path, **settings: object) -> list[str]:
        wish = {"policy__push_to_hub": True, "policy__repo_id": "cubes", "policy__license": "mit"}
        return ["train", *workshop.flags(run, steps=2, log_freq=1, eval_steps=0, **{**wish, **settings})]

    def test_the_policy_is_published(self, workshop: Any, hub: FakeHub, pi05: Any, tmp_path: Path) -> None:
        code, output = pi05(*self.flags(workshop, tmp_path / "run", policy__tags="[arm]"))
        assert code == 0, output
        assert output.index("will be created; ada may write to it") < output.index("step 1/2")
        assert output.index("step 2/2") < output.index(f"published: {hub.url}/ada/cubes")
        files = hub.files("ada/cubes")
        assert yaml.safe_load(files[CARD].decode().split("---")[1])["license"] == "mit"
        stored = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
        assert not any(TOKEN.encode() in data for data in stored.values())
        assert no_trace_of_this_machine(files, tmp_path, workshop.dataset.parent)

    def test_what_cannot_be_published_is_not_trained(
        self, workshop: Any, hub: FakeHub, pi05: Any, tmp_path: Path
    ) -> None:
        """One reason of several: those are in `unit/hub/test_access.py`."""
        hub.users[TOKEN] = User("ada", role="read")
        code, output = pi05(*self.flags(workshop, tmp_path / "run"))
        assert (code, hub.repositories) == (2, {})
        assert "may only read" in output
        assert "step" not in output
        assert not (tmp_path / "run").exists()

    def test_a_public_repository_is_not_taken_for_a_private_one(
        self, workshop: Any, hub: FakeHub, pi05: Any, tmp_path: Path
    ) -> None:
        hub.repositories["ada/cubes"] = Repository()
        code, output = pi05(*self.flags(workshop, tmp_path / "run", policy__private=True))
        assert code == 2
        assert "is public" in output

    @pytest.mark.slow
    def test_nothing_is_asked_unless_it_is_wanted(self, workshop: Any, hub: FakeHub, pi05: Any, tmp_path: Path) -> None:
        code, _ = pi05(*self.flags(workshop, tmp_path / "run", policy__push_to_hub=False), token=None)
        assert (code, hub.requests) == (0, [])

    @pytest.mark.slow
    def test_an_upload_that_fails_costs_no_step(self, workshop: Any, hub: FakeHub, pi05: Any, tmp_path: Path) -> None:
        """Training is done and saved; resume keeps the wish, and so does `pi05 push` without a name."""
        run = tmp_path / "run"
        hub.fail("POST", "/commit/", 403, times=2)
        code, output = pi05(*self.flags(workshop, run))
        assert code == 2
        assert f"training is done and saved in {run}" in output
        assert "403" in output
        assert f"pi05 push {run}" in output
        assert (run / "checkpoints" / "last").resolve().name == "000002"

        code, output = pi05("train", "--resume", str(run))
        assert code == 2, "the hub still refuses"
        assert hub.files("ada/cubes") == {}

        code, output = pi05("push", str(run))
        assert code == 0, output
        assert "model.safetensors" in hub.files("ada/cubes")
