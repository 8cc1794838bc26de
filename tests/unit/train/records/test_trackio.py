"""Trackio with the real package: on this machine, resumed, a space out of reach. Nothing here needs a network."""

from __future__ import annotations

import io
import json
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from pi05.errors import ConfigError
from pi05.train.records.config import TrackioConfig
from pi05.train.records.sinks import RunInfo
from pi05.train.records.trackio import SENDING, TrackioSink

NOBODY = "http://127.0.0.1:9"
"""An address at which nobody listens."""


@pytest.fixture(scope="session")
def folder_of_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder in each process of the tests: pytest-xdist may come back to this module after another one."""
    return tmp_path_factory.mktemp("trackio")


@pytest.fixture(scope="module")
def home(folder_of_process: Path) -> Iterator[Path]:
    """Trackio's folder, which it takes from the environment when it is imported, once. No login, and no hub."""
    folder = folder_of_process
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(folder))
        patch.setenv("HF_ENDPOINT", NOBODY)
        patch.setenv("HF_HOME", str(folder / "hub"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", *SENDING):
            patch.delenv(name, raising=False)
        pytest.importorskip("trackio", reason="pip install 'pi05[trackio]' for this test")
        yield folder


def run_sink(folder: Path, first_step: int = 0, **settings: object) -> tuple[TrackioSink, str]:
    folder.mkdir(exist_ok=True)
    out = io.StringIO()
    sink = TrackioSink(TrackioConfig(enable=True, **settings), Console(file=out, width=200))  # type: ignore[arg-type]
    config = {"steps": 10, "policy": {"path": None, "optimizer_lr": float("nan")}}
    sink.start(RunInfo(name="run", run_dir=folder, config=config, first_step=first_step, total_steps=10))
    sink.tick(1)
    sink.log({"type": "train", "step": first_step + 1, "loss": 0.5, "text": "x"})
    sink.log({"type": "eval", "step": first_step + 1, "dimensions": {"x": {"error": 0.1}}})
    sink.finish("finished")
    return sink, out.getvalue()


def recorded(home: Path, project: str) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """Return what Trackio has on disk: run → steps and numbers."""
    found: dict[str, list[tuple[int, dict[str, float]]]] = {}
    with sqlite3.connect(home / f"{project}.db") as base:
        for name, step, numbers in base.execute("select run_name, step, metrics from metrics order by id"):
            found.setdefault(name, []).append((step, json.loads(numbers)))
    return found


def test_a_run_is_kept_here_and_continued_on_resume(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder = tmp_path / "run"
    _, told = run_sink(folder, project="lab", notes="a note")
    stored = json.loads((folder / "trackio.json").read_text())
    assert told == f"Trackio: run {stored['run']}; live: trackio show --project lab\n"
    run_sink(folder, first_step=5, project="lab")
    numbers = [{"train/loss": 0.5}, {"eval/dimensions/x/error": 0.1}]
    assert recorded(home, "lab") == {stored["run"]: list(zip([1, 1, 6, 6], numbers * 2, strict=True))}
    with sqlite3.connect(home / "lab.db") as base:
        ((config,),) = base.execute("select config from configs")
    assert {"steps": 10, "notes": None}.items() <= json.loads(config).items()
    assert json.loads(config)["policy"] == {"path": None, "optimizer_lr": None}
    assert capsys.readouterr() == ("", "")  # Trackio's own words are left to the line above


def test_a_given_run_is_continued(home: Path, tmp_path: Path) -> None:
    run_sink(tmp_path / "one", project="given", run_id="mine")
    run_sink(tmp_path / "two", project="given", run_id="mine")
    assert [len(records) for records in recorded(home, "given").values()] == [4]


@pytest.mark.parametrize("token", ["hf_" + "x" * 34, None])
def test_a_space_out_of_reach_keeps_the_run_here(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    project = f"space{token is None}"
    sink, told = run_sink(tmp_path / "run", project=project, space_id="lab/metrics")
    assert sink.space_id is None
    assert "notice: Trackio did not start in the space lab/metrics: " in told
    assert f"trackio sync --project {project} --space-id lab/metrics" in told
    assert [len(records) for records in recorded(home, project).values()] == [2]


def test_a_space_that_does_not_answer_holds_nothing_up(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(*_: object) -> None:
        over.wait(60)
        raise OSError

    monkeypatch.setattr(socket.socket, "connect", hang)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    config, out = TrackioConfig(enable=True, project="slow", space_id="lab/metrics"), io.StringIO()
    sink = TrackioSink(config, Console(file=out, width=200), start_timeout_s=1)
    sink.start(RunInfo(name="run", run_dir=tmp_path, config={}, first_step=0, total_steps=10))
    sink.finish("finished")
    over.set()
    assert "in the space lab/metrics: no answer in 1 s" in out.getvalue()
    assert "trackio show --project slow" in out.getvalue()


def test_a_space_in_the_environment_is_passed_over_and_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_SPACE_ID", "lab/metrics")
    _, told = run_sink(tmp_path / "run", project="elsewhere")
    assert "notice: TRACKIO_SPACE_ID is passed over" in told
    assert len(recorded(home, "elsewhere")) == 1


@pytest.mark.filterwarnings("ignore:trackio")  # Trackio's own words about it
def test_a_broken_store_ends_trackio_only(home: Path, tmp_path: Path) -> None:
    (home / "broken.db").write_bytes(b"no data base" * 1000)
    sink, _ = run_sink(tmp_path / "run", project="broken")
    sink.log({"type": "train", "step": 3, "loss": 0.5})


def test_a_crash_inside_is_told_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    out = io.StringIO()
    sink = TrackioSink(TrackioConfig(enable=True, project="crash"), Console(file=out, width=200))
    sink.start(RunInfo(name="run", run_dir=tmp_path, config={}, first_step=0, total_steps=10))
    monkeypatch.setattr(sys.modules["trackio"].Run, "log", crash)
    for step in (1, 2):
        sink.log({"type": "train", "step": step, "loss": 0.5})
    sink.finish("finished")
    assert out.getvalue().count("notice: Trackio stopped, training goes on: no space left on device") == 1


def test_a_missing_package_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ConfigError, match=r"pip install 'pi05\[trackio\]'"):
        TrackioSink(TrackioConfig(enable=True), Console(quiet=True))


@pytest.mark.parametrize("space", ["metrics", "a/b/c"])
def test_a_space_has_an_owner(space: str) -> None:
    with pytest.raises(ConfigError, match="space_id"):
        TrackioConfig(space_id=space)
