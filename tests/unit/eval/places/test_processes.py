"""Environments in processes of their own: the same episodes, and what dies or hangs is carried out once more."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_crashes import CrashMaker, Unable, Unwilling
from torch import Tensor

from pi05.errors import ConfigError, EvaluationError
from pi05.eval.config import FIRST_EVALUATION_SEED, EvalConfig
from pi05.eval.episode import EpisodeResult
from pi05.eval.places.here import PlacesHere
from pi05.eval.places.processes import PlacesInProcesses
from pi05.eval.rollout import Ended, Rollout
from pi05.eval.rules import rules_of
from pi05.sim.protocol import Environment
from pi05.sim.tabletop import Tabletop

pytestmark = pytest.mark.process
FIRST = FIRST_EVALUATION_SEED


class Noisy:
    """Acts by state and noise, so that what an episode does depends on all that is promised to be its own."""

    n_action_steps = 2
    noise_shape = (4, 32)

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        self.seen: dict[str, list[np.ndarray]] = {}

    def infer_batch(self, observations: Any, noise: Tensor | None = None, num_steps: int = 10) -> list[np.ndarray]:
        assert noise is not None
        self.batch_sizes.append(len(observations))
        chunks = [0.1 * n.numpy()[:, :3] + o["observation.state"] for n, o in zip(noise, observations, strict=True)]
        for observation, chunk in zip(observations, chunks, strict=True):
            self.seen.setdefault(observation["task"], []).append(chunk)
        return chunks


def carry_out(
    make: Callable[[], Environment], workers: int, episodes: int = 6, **settings: Any
) -> tuple[list[EpisodeResult], Noisy, list[Ended]]:
    config = EvalConfig(episodes=episodes, **settings)
    policy, ended, told = Noisy(), list[Ended](), list[str]()
    places: Any = PlacesInProcesses(make, workers, config.timeout_s, told.append) if workers else PlacesHere(make, 3)
    with places:
        rules = rules_of(config, places.facts, policy.n_action_steps)
        Rollout(policy, places, rules, config, filmed=True).carry_out(range(episodes), ended.append)
    ended.sort(key=lambda e: e.result.index)
    return [e.result for e in ended], policy, ended


def test_processes_give_the_episodes_of_one_process(tmp_path: Path) -> None:
    make = CrashMaker(tmp_path, {})
    here, _, films = carry_out(make, 0)
    assert len({episode.start for episode in here}) == 6
    for workers in (1, 2):
        there, policy, others = carry_out(make, workers)
        assert there == here
        assert sum(policy.batch_sizes) == 6 * 3
        for film, other in zip(films, others, strict=True):
            np.testing.assert_array_equal(np.stack(film.film.frames), np.stack(other.film.frames))


def test_what_dies_hangs_or_raises_is_carried_out_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _, _ = carry_out(CrashMaker(tmp_path, {}), 0)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    make = CrashMaker(tmp_path, {FIRST: "dies", FIRST + 1: "hangs", FIRST + 2: "raises", FIRST + 3: "exits"})
    episodes, _, _ = carry_out(make, 2, timeout_s=10.0)
    assert [replace(episode, repeated=None) for episode in episodes] == plain
    told = [episode.repeated or "" for episode in episodes]
    assert "was killed (SIGKILL)" in told[0]
    assert "did not answer within 10 s" in told[1]
    assert told[2] == "step 2: FloatingPointError: the solver diverged"
    assert told[3] == "the environment's process ended with code 7: the solver says goodbye"
    assert told[4:] == ["", ""]
    assert list(scratch.iterdir()) == []


def test_what_fails_twice_is_an_error_and_no_failure(tmp_path: Path) -> None:
    make = CrashMaker(tmp_path, {FIRST + 1: "dies", FIRST + 2: "raises"}, always=True)
    episodes, _, _ = carry_out(make, 2, episodes=4)
    assert [episode.outcome for episode in episodes] == ["failure", "error", "error", "failure"]
    assert "SIGKILL" in (episodes[1].error or "")
    assert episodes[1].repeated is not None


def test_nobody_waits_for_the_slowest(tmp_path: Path) -> None:
    """One episode of seven sleeps; the other process carries out the other six meanwhile."""
    make = CrashMaker(tmp_path, {}, slow_seeds=(FIRST,))
    _, policy, ended = carry_out(make, 2, episodes=7)
    assert len(ended) == 7
    assert policy.batch_sizes.count(1) > 9


def test_an_environment_that_cannot_be_made_is_told_as_in_one_process() -> None:
    with pytest.raises(ConfigError, match=r"no picture can be drawn here\n  wanted: EGL\n  to do:  install libegl1"):
        carry_out(Unwilling, 1)
    with pytest.raises(EvaluationError, match="OSError: no display"):
        carry_out(Unable, 1)


def test_processes_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Also when that one is killed and an environment hangs."""
    program = (
        "import sys, time, pathlib; sys.path[:0] = sys.argv[2:]\n"
        "from fake_crashes import CrashMaker\n"
        "from pi05.eval.places.process import PlaceProcess\n"
        "from pi05.eval.episode import EpisodePlan\n"
        "import numpy as np\n"
        "p = PlaceProcess(CrashMaker(pathlib.Path(sys.argv[1]), {5: 'hangs'})); p.receive()\n"
        "p.ask(EpisodePlan(index=0, seed=5)); p.receive(); p.ask(np.zeros((4, 3)))\n"
        "while not (pathlib.Path(sys.argv[1]) / 'happened-5').exists(): time.sleep(0.05)\n"
        "print(p.pid, 'torch' in sys.modules, flush=True); time.sleep(1000)\n"
    )
    paths = [str(Path(__file__).parents[3]), *[path for path in sys.path if path]]
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), *paths], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    pid, torch = starter.stdout.readline().split()
    assert torch == "False"
    starter.kill()
    starter.communicate()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} goes on")


def test_an_environment_s_process_has_no_torch() -> None:
    program = (
        "import pi05.eval.places.worker, pi05.sim.environments, pi05.sim.tabletop, sys; print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert answer.stdout == "False\n"


def test_as_many_processes_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("pi05.eval.places.processes.free_memory", lambda: 10**6)
    with PlacesInProcesses(partial(Tabletop, "demo"), 3, 60.0, told.append) as places:
        rules = rules_of(EvalConfig(episodes=2), places.facts, 2)
        Rollout(Noisy(), places, rules, EvalConfig(episodes=2), filmed=False).carry_out(range(2), lambda _: None)
        assert places.count == 1
    assert told[0].startswith("note: 1 instead of 3 environments side by side: each takes 0.")
