"""`pi05 eval` killed, interrupted and shared by processes: no finished episode is lost, and the result is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import pytest
from fake_policies import make_policy, save_policy

from pi05.checkpoint.run_folder import point
from pi05.cli import main

pytestmark = pytest.mark.process
Start = Callable[..., "subprocess.Popen[str]"]
FLAGS = ("--episodes=8", "--num_envs=1", "--policy.n_action_steps=6", "--threads=1", "--films=2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one checkpoint of an untrained policy."""
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = fakes.write_tokenizer(folder / "tokenizer.json")
    checkpoint = save_policy(folder / "run" / "checkpoints" / "000007", make_policy(tokenizer))
    point(folder / "run", "last", checkpoint)
    return folder / "run"


def words(run: Path, output: Path, *more: str) -> list[str]:
    return ["eval", f"--policy.path={run}", f"--output_dir={output}", *FLAGS, *more]


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same evaluation, uninterrupted."""
    output = tmp_path_factory.mktemp("whole") / "eval"
    assert main(words(run, output)) == 0
    return output


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def without_times(page: Path) -> str:
    """Return the films and the table of episodes, which is what an interruption could lose."""
    text = page.read_text()
    return text[text.index("<h2>What the model saw first") : text.index("<h2>How it was measured")]


def finished(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (folder / "partial").glob("episodes-*.jsonl"))


def await_episodes(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    started = time.monotonic()
    while finished(folder) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() - started < 120
        time.sleep(0.01)


def test_what_a_killed_evaluation_has_finished_is_kept(
    run: Path, whole: Path, tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "eval"
    process = start(*words(run, output))
    await_episodes(process, output, 3)
    process.kill()
    process.communicate()
    kept = finished(output)
    assert 3 <= kept < 8
    with (output / "partial" / "episodes-0.jsonl").open("ab") as file:
        file.write(b'{"result": {"ind')  # what a kill in the middle of a line leaves
    assert main(words(run, output)) == 2
    assert "holds an evaluation that was interrupted" in capsys.readouterr().err
    assert main(words(run, output, "--resume", "--seed=1")) == 2
    assert "begun with another setting" in capsys.readouterr().err
    assert main(words(run, output, "--resume", "--workers=1")) == 0
    assert f"going on in {output}: {kept} episodes are finished" in capsys.readouterr().out
    assert results(output)["episodes"] == results(whole)["episodes"]
    assert without_times(output / "report.html") == without_times(whole / "report.html")
    assert sorted(path.name for path in output.iterdir()) == ["report.html", "results.json"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_evaluation_says_how_it_goes_on(
    number: signal.Signals, run: Path, tmp_path: Path, start: Start
) -> None:
    output = tmp_path / "eval"
    process = start(*words(run, output, "--workers=1"))
    await_episodes(process, output, 2)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert f"episodes are kept in {output}; go on with --resume --output_dir={output}" in printed
    assert "Traceback" not in printed
    assert finished(output) >= 2


def test_two_processes_give_the_report_of_one(run: Path, whole: Path, tmp_path: Path, start: Start) -> None:
    output = tmp_path / "eval"
    ranks = [start(*words(run, output), RANK=str(rank), WORLD_SIZE="2") for rank in (1, 0)]
    printed = [rank.communicate(timeout=200)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], printed
    assert results(output)["episodes"] == results(whole)["episodes"]
    assert without_times(output / "report.html") == without_times(whole / "report.html")
    assert "report:" in printed[1]
    assert "report:" not in printed[0]
    assert not (output / "partial").exists()


@pytest.mark.slow
def test_a_dead_process_ends_the_others_with_an_error(run: Path, whole: Path, tmp_path: Path, start: Start) -> None:
    output = tmp_path / "eval"
    ranks = [start(*words(run, output), RANK=str(rank), WORLD_SIZE="2") for rank in (0, 1)]
    await_episodes(ranks[1], output, 2)
    os.kill(ranks[1].pid, signal.SIGKILL)
    printed, _ = ranks[0].communicate(timeout=60)
    ranks[1].communicate()
    assert ranks[0].returncode == 2, printed
    assert "process 1 of this evaluation has ended" in printed
    assert "was it killed?" in printed
    assert not (output / "results.json").exists()
    assert main(words(run, output, "--resume")) == 0  # one process goes on with what two have begun
    assert results(output)["episodes"] == results(whole)["episodes"]


def test_several_processes_need_a_common_folder(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["eval", f"--policy.path={run}", *FLAGS]) == 2
    assert "add --output_dir=FOLDER" in capsys.readouterr().err
