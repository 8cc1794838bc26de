"""WandB with the real package: offline, resumed, unreachable, without a login. Nothing here needs a network."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from pi05.errors import ConfigError
from pi05.train.records.config import WandbConfig
from pi05.train.records.sinks import RunInfo
from pi05.train.records.wandb import WandbSink

wandb = pytest.importorskip("wandb")

pytestmark = pytest.mark.filterwarnings("ignore")  # wandb's own
UNREACHABLE = "http://127.0.0.1:9"
TIMEOUT_S = 4.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login, no settings, no server from the machine that runs the test."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", UNREACHABLE)
    (tmp_path / "home").mkdir()
    wandb.teardown()


def info(folder: Path, first_step: int = 0) -> RunInfo:
    return RunInfo(
        name="a run", run_dir=folder, config={"steps": 10, "lr": 1e-3}, first_step=first_step, total_steps=10
    )


def run_sink(folder: Path, first_step: int = 0, **settings: object) -> tuple[WandbSink, str]:
    folder.mkdir(exist_ok=True)
    out = io.StringIO()
    sink = WandbSink(
        WandbConfig(enable=True, **settings),  # type: ignore[arg-type]
        Console(file=out, width=200),
        init_timeout_s=TIMEOUT_S,
        finish_timeout_s=30,
    )
    sink.start(info(folder, first_step))
    sink.tick(1)
    sink.log({"type": "train", "step": first_step + 1, "loss": 0.5, "text": "x"})
    sink.log({"type": "eval", "step": first_step + 1, "dimensions": {"x": {"error": 0.1}}})
    sink.finish("finished")
    return sink, out.getvalue()


def recorded(folder: Path, last: bytes) -> bytes:
    """Return what wandb's own process has written; it may do so a moment after `finish`."""
    limit = time.monotonic() + 60
    content = b""
    while last not in content and time.monotonic() < limit:
        time.sleep(0.05)
        content = b"".join(file.read_bytes() for file in folder.glob("wandb/offline-run-*/run-*.wandb"))
    return content


@pytest.mark.process
def test_offline_records_and_keeps_its_id_on_resume(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _, told = run_sink(folder, mode="offline", project="lab", entity="team", notes="a note")
    assert told == ""
    stored = json.loads((folder / "wandb.json").read_text())
    assert (stored["project"], stored["entity"], stored["mode"]) == ("lab", "team", "offline")
    content = recorded(folder, b"eval/dimensions/x/error")
    for text in (b"train/loss", b"eval/dimensions/x/error", b"a note", b"lab", stored["run_id"].encode()):
        assert text in content
    run_sink(folder, first_step=5, mode="offline", project="lab")
    assert json.loads((folder / "wandb.json").read_text())["run_id"] == stored["run_id"]
    names = [path.name for path in folder.glob("wandb/offline-run-*")]
    assert names
    assert all(name.endswith(stored["run_id"]) for name in names)


@pytest.mark.process
def test_a_given_run_id_is_used(tmp_path: Path) -> None:
    run_sink(tmp_path / "run", mode="offline", run_id="mine1234")
    assert json.loads((tmp_path / "run" / "wandb.json").read_text())["run_id"] == "mine1234"


@pytest.mark.process
@pytest.mark.parametrize("login", [True, False])
def test_online_without_network_or_login_turns_offline_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: bool
) -> None:
    if login:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    started = time.monotonic()
    sink, told = run_sink(tmp_path / "run", mode="online")
    assert time.monotonic() - started < 60
    assert sink.mode == "offline"
    assert "notice: WandB did not start in mode online" in told
    assert "kept offline for this run" in told
    assert b"train/loss" in recorded(tmp_path / "run", b"train/loss")


def test_disabled_does_nothing(tmp_path: Path) -> None:
    _, told = run_sink(tmp_path / "run", mode="disabled")
    assert told == ""
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.process
def test_a_crash_inside_wandb_ends_wandb_only(tmp_path: Path) -> None:
    out = io.StringIO()
    sink = WandbSink(WandbConfig(enable=True, mode="offline"), Console(file=out, width=200))
    sink.start(info(tmp_path))
    wandb.finish()  # as if the user's own code, or wandb itself, had ended the run
    for step in (1, 2):
        sink.log({"type": "train", "step": step, "loss": 0.5})
    sink.finish("finished")
    assert out.getvalue().count("notice: WandB stopped, training goes on") == 1


def test_a_missing_package_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'pi05\[wandb\]'"):
        WandbSink(WandbConfig(enable=True), Console(quiet=True))
