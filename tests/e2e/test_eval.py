"""`pi05 eval`: from a checkpoint folder to results.json and a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fake_policies import make_policy, save_policy

from pi05.checkpoint.run_folder import point
from pi05.cli import main
from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig
from pi05.eval.evaluate import evaluate_policy
from pi05.policy_choice import ChosenPolicy
from pi05.sim.tabletop import Tabletop


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture
def run(tokenizer: Path, tmp_path: Path) -> Path:
    """A run folder with one checkpoint of an untrained policy."""
    checkpoint = save_policy(tmp_path / "run" / "checkpoints" / "000007", make_policy(tokenizer))
    point(tmp_path / "run", "last", checkpoint)
    return tmp_path / "run"


class ShortTabletop(Tabletop):
    def __init__(self) -> None:
        super().__init__("demo", max_steps=6)


def test_the_command_writes_results_and_a_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "eval",
        f"--policy.path={run}",
        "--env=tabletop",
        "--episodes=3",
        "--num_envs=2",
        "--policy.n_action_steps=10",
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "tabletop/demo: 3 episodes" in printed
    assert "Wilson 95 %" in printed
    assert f"report: {run / 'eval-tabletop-1' / 'report.html'}" in printed
    results = json.loads((run / "eval-tabletop-1" / "results.json").read_text())
    assert results["success"]["trials"] == 3
    assert len({episode["seed"] for episode in results["episodes"]}) == 3
    assert results["policy"]["step"] == 7
    assert results["policy"]["n_action_steps"] == 10
    page = (run / "eval-tabletop-1" / "report.html").read_text()
    assert page.count("data:image/webp") >= 8
    assert sorted(p.name for p in (run / "eval-tabletop-1").iterdir()) == ["report.html", "results.json"]


def test_the_same_seed_gives_the_same_evaluation(tokenizer: Path, tmp_path: Path) -> None:
    policy = make_policy(tokenizer)

    def results(name: str, **changes: Any) -> tuple[list[dict[str, Any]], list[list[float]]]:
        """Return the episodes, and apart from them the steps at the seams, which are numbers of the network."""
        config = EvalConfig(**{"episodes": 4, "output_dir": str(tmp_path / name), **changes})
        done = evaluate_policy(config, policy=policy, make_environment=ShortTabletop, console=False).episodes
        plain = [episode.to_dict() for episode in done]
        return plain, [episode.pop("seam") for episode in plain]

    first, seams = results("a")
    assert results("b") == (first, seams)
    in_threes, their_seams = results("c", num_envs=3)
    assert in_threes == first
    np.testing.assert_allclose(np.concatenate(their_seams), np.concatenate(seams), atol=1e-5)
    assert results("d", seed=1)[0] != first


def test_actions_do_not_depend_on_the_number_of_environments(tokenizer: Path, tmp_path: Path) -> None:
    """Success may be equal by chance; what the robot did may not."""

    class Recorder(ShortTabletop):
        def reset(self, seed: int, task: str | None = None) -> None:
            self.log = recorded.setdefault(seed, [])
            super().reset(seed, task)

        def step(self, action: np.ndarray) -> tuple[bool, bool]:
            self.log.append(action)
            return super().step(action)

    recordings = []
    for num_envs in (1, 2, 5):
        recorded: dict[int, list[np.ndarray]] = {}
        config = EvalConfig(episodes=5, num_envs=num_envs, output_dir=str(tmp_path / str(num_envs)))
        evaluate_policy(config, policy=make_policy(tokenizer), make_environment=Recorder, console=False)
        recordings.append(np.stack([np.stack(recorded[seed]) for seed in sorted(recorded)]))
    assert recordings[0].shape == (5, 6, 3)
    for other in recordings[1:]:
        np.testing.assert_allclose(other, recordings[0], atol=1e-5)


def test_every_episode_lost_to_the_simulator_is_an_error(tokenizer: Path, tmp_path: Path) -> None:
    class Broken(ShortTabletop):
        def step(self, action: np.ndarray) -> tuple[bool, bool]:
            raise OSError("no display")

    config = EvalConfig(episodes=2, output_dir=str(tmp_path / "out"))
    with pytest.raises(EvaluationError, match="step 0: OSError: no display"):
        evaluate_policy(config, policy=make_policy(tokenizer), make_environment=Broken, console=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["simulator_exceptions"] == 2
    assert results["success"]["rate"] is None
    assert "no episode counts" in (tmp_path / "out" / "report.html").read_text()


def test_a_policy_that_does_not_fit_is_refused_before_the_first_episode(tokenizer: Path, tmp_path: Path) -> None:
    config = EvalConfig(episodes=1, output_dir=str(tmp_path / "out"))
    fast = make_policy(tokenizer, fps=20.0)
    with pytest.raises(EvaluationError, match="another control rate"):
        evaluate_policy(config, policy=fast, console=False)
    stats = fast.processor.action_stats
    two = replace(stats, **{name: getattr(stats, name)[:2] for name in ("mean", "std", "min", "max", "q01", "q99")})
    with pytest.raises(EvaluationError, match="another robot"):
        evaluate_policy(config, policy=make_policy(tokenizer, action_stats=two), console=False)
    greedy = replace(config, policy=ChosenPolicy(n_action_steps=11))
    with pytest.raises(EvaluationError, match="does not predict as many"):
        evaluate_policy(greedy, policy=make_policy(tokenizer), console=False)
    blind = make_policy(tokenizer)
    other = replace(blind.processor.slots, scene="observation.images.front")
    with pytest.raises(EvaluationError, match="other cameras"):
        evaluate_policy(config, policy=make_policy(tokenizer, slots=other), console=False)
    assert not (tmp_path / "out" / "results.json").exists()


def test_what_is_no_policy_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", f"--policy.path={tmp_path}"]) == 2
    assert "no checkpoint found" in capsys.readouterr().err
    assert main(["eval"]) == 2
    assert "--policy.path" in capsys.readouterr().err


def test_auto_stops_when_the_interval_is_narrow(tokenizer: Path, tmp_path: Path) -> None:
    """An untrained policy fails always: after 50 episodes half of the interval is 3.6 points."""

    def run(half_width: float) -> int:
        output = str(tmp_path / f"{half_width}")
        config = EvalConfig(episodes="auto", half_width=half_width, max_steps=1, films=0, output_dir=output)
        result = evaluate_policy(config, policy=make_policy(tokenizer), make_environment=ShortTabletop, console=False)
        assert result.success.successes == 0
        return len(result.episodes)

    assert run(0.05) == 50
    assert run(0.02) == 100


def test_a_simulator_that_is_broken_for_good_ends_the_evaluation_and_can_be_repaired(
    tokenizer: Path, tmp_path: Path
) -> None:
    """Ten errors in a row; those episodes are carried out again afterwards."""

    class Broken(ShortTabletop):
        repaired = False

        def step(self, action: np.ndarray) -> tuple[bool, bool]:
            if not self.repaired:
                raise OSError("no display")
            return super().step(action)

    config = EvalConfig(episodes=30, num_envs=5, films=0, output_dir=str(tmp_path / "out"))
    policy = make_policy(tokenizer)
    with pytest.raises(EvaluationError, match=r"failed in 10 episodes, one after another(.|\n)*no display"):
        evaluate_policy(config, policy=policy, make_environment=Broken, console=False)
    assert not (tmp_path / "out" / "results.json").exists()
    Broken.repaired = True
    again = replace(config, resume=True)
    result = evaluate_policy(again, policy=policy, make_environment=Broken, console=False)
    assert len(result.counted) == len(result.episodes) == 30
