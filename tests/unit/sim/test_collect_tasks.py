"""Demonstrations of a benchmark's tasks: failures are dropped, and how the work was done leaves no trace."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_collecting import MoodyMaker

from pi05 import Dataset
from pi05.errors import ConfigError, DataError, EvaluationError, UserError
from pi05.sim.collect_tasks import TaskDemonstrations, collect_tasks
from pi05.sim.replay_file import read_replay
from pi05.terminal import Counter, PlainConsole

pytestmark = pytest.mark.process
FAILS = frozenset({("left_1", 5), ("left_1", 6), ("right_1", 7)})
SETTINGS = {"env": "libero", "suite": "libero_object"}


def collect(make: MoodyMaker, output: Path, per_task: int = 3, workers: int = 1, **more: Any) -> TaskDemonstrations:
    quiet = lambda total: Counter(total, "demonstrations", console=PlainConsole(file=io.StringIO()))  # noqa: E731
    return collect_tasks(make, per_task, output, 5, workers, more.get("settings", SETTINGS), quiet)


def content(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_failures_are_dropped_and_counted_and_the_number_of_processes_leaves_no_trace(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    one = collect(MoodyMaker(marks, FAILS), tmp_path / "one")
    assert one.yields == [("left_1", 3, 5), ("right_1", 3, 4)]
    assert not (tmp_path / "one.collecting").exists()
    data = Dataset(one.folder)
    assert [data.num_episodes, data.fps] == [6, 20]
    settings, rows = read_replay(one.folder, 7)
    assert settings == SETTINGS
    assert [(row.task, row.seed) for row in rows] == [
        ("left_1", 7), ("right_1", 5), ("left_1", 8), ("right_1", 6), ("left_1", 9), ("right_1", 8),
    ]  # fmt: skip
    for episode, row in zip(data.episodes, rows, strict=True):
        frame = data.frame(episode.start)
        assert frame["task"] == {"left_1": "turn left", "right_1": "turn right"}[str(row.task)]
        np.testing.assert_allclose(frame["observation.state"][:7], 0.01 * (row.seed % 10), rtol=1e-6)
        assert len(row.executed) == episode.length
    executed = np.concatenate([row.executed for row in rows])
    assert (executed != data.actions()).any()  # disturbed
    dies = MoodyMaker(marks, FAILS, dies=frozenset({6, 9}))
    two = collect(dies, tmp_path / "two", workers=2)
    assert {path.name for path in marks.glob("died-*")} == {"died-6", "died-9"}
    assert {path.read_text() for path in marks.glob("made-*")} == {"1"}
    assert content(two.folder) == content(one.folder)


def test_what_goes_wrong_is_told_and_what_is_finished_stays(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such task\n.*left_1\n.*up_1\n.*correct --tasks"):
        collect(MoodyMaker(tmp_path, refuses=True), tmp_path / "a")
    with pytest.raises(EvaluationError, match=r"process died\n.*\n.*SIGKILL.*, 2 times at task 0, seed 5"):
        collect(MoodyMaker(tmp_path, dies=frozenset({5}), again=True), tmp_path / "b", 1)
    raised = collect(MoodyMaker(tmp_path, raises=frozenset({5})), tmp_path / "c", 1)
    assert raised.yields == [("left_1", 1, 2), ("right_1", 1, 2)]
    assert raised.exceptions[0] == "FloatingPointError: the solver diverged (left_1, seed 5)"
    with pytest.raises(EvaluationError, match=r"no demonstration in 5 attempts.*\n.*\n.*left_1; .* \(left_1, seed 9\)"):
        collect(MoodyMaker(tmp_path, raises=frozenset(range(50))), tmp_path / "d", 1)
    assert not any((tmp_path / name).exists() for name in "abd")


def test_another_collection_is_not_mixed_in(tmp_path: Path) -> None:
    staged = tmp_path / "out.collecting"
    staged.mkdir()
    begun = SETTINGS | {"episodes_per_task": 3, "first_seed": 5}
    (staged / "settings.json").write_text(json.dumps(begun))
    other = {"env": "libero", "suite": "libero_goal"}
    with pytest.raises(DataError, match=r"other settings\n.*suite=libero_object\n.*suite=libero_goal"):
        collect(MoodyMaker(tmp_path), tmp_path / "out", settings=other)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="exists already"):
        collect(MoodyMaker(tmp_path), tmp_path / "out")
    with pytest.raises(ConfigError, match="--episodes-per-task of at least 1"):
        collect(MoodyMaker(tmp_path), tmp_path / "new", 0)


def test_a_killed_collection_goes_on_to_the_same_data_set(tmp_path: Path) -> None:
    """kill -9 of the first process with some attempts finished; its children end by themselves."""
    marks = tmp_path / "marks"
    marks.mkdir()
    whole = collect(MoodyMaker(marks, FAILS), tmp_path / "whole")
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            sys.path.insert(0, sys.argv[1])
            from pathlib import Path
            from fake_collecting import MoodyMaker
            from fake_robot import FakeRobot
            from pi05.sim.collect_tasks import collect_tasks
            from pi05.terminal import Counter

            if __name__ == "__main__":
                fails = frozenset({("left_1", 5), ("left_1", 6), ("right_1", 7)})
                settings = {"env": "libero", "suite": "libero_object"}
                make = MoodyMaker(Path(sys.argv[2]), fails)
                collect_tasks(make, 3, Path(sys.argv[3]), 5, 1, settings, lambda n: Counter(n, "demonstrations"))
            """
        )
    )
    output, staged = tmp_path / "out", tmp_path / "out.collecting"
    tests = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen([sys.executable, str(program), tests, str(marks), str(output)])
    while len(list(staged.glob("task*.npz"))) < 3 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    assert not output.exists(), "it was too fast to be killed on the way"
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path.name: os.stat(path).st_mtime_ns for path in staged.glob("task*.npz")}
    resumed = collect(MoodyMaker(marks, FAILS), output)
    assert before
    assert resumed.yields == whole.yields
    assert content(output) == content(whole.folder)
    shutil.rmtree(output)
