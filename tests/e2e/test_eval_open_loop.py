"""`pi05 eval --dataset.root`: real commands with a real network on recorded episodes, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from recorded_cases import Recorded, write_case
from report_pages import parse_page

from pi05.cli import main


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return write_case(tmp_path_factory.mktemp("case"))


def numbers_in(folder: Path) -> dict[str, Any]:
    assert sorted(path.name for path in folder.iterdir()) == ["open_loop.json", "report.html"]
    parse_page((folder / "report.html").read_text())
    numbers: dict[str, Any] = json.loads((folder / "open_loop.json").read_text())
    return numbers


def test_held_out_episodes_of_a_run(case: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    run = case.checkpoint.parent.parent
    words = [f"--policy.path={run}", f"--dataset.root={case.data}", "--episodes=held-out", "--sensitivity_frames=3"]
    assert main(["eval", *words, "--policy.num_inference_steps=2"]) == 0
    told = capsys.readouterr().out
    assert "held-out episode 3; 3 looks, one every 5 frames" in told
    assert "3/3 looks" in told
    assert f"report: {run / 'open-loop-1' / 'report.html'}" in told
    [policy] = numbers_in(run / "open-loop-1")["policies"]
    assert policy["step"] == 7
    assert policy["error"] > 0.1
    effects = policy["sensitivity"]["effects"]
    assert {effect["input"] for effect in effects} == {"scene", "wrist", "state", "instruction"}
    assert all(effect["moved"] > 0 for effect in effects)  # an untrained network reads them all


def test_two_checkpoints_on_numbered_episodes(
    case: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, checkpoint = tmp_path / "out", str(case.checkpoint)
    words = ["--compare", checkpoint, checkpoint, f"--dataset.root={case.data}", "--episodes=[1, 3]", "--draws=2"]
    words += ["--policy.num_inference_steps=1", "--sensitivity_frames=0", f"--output_dir={out}"]
    assert main(["eval", *words]) == 0
    told = capsys.readouterr().out
    assert told.startswith("warning: 1 of 2 episodes were trained on by A and B (1)")
    numbers = numbers_in(out)
    a, b = numbers["policies"]
    assert a["error"] == b["error"]  # the same noise for both
    assert a["spread"] > 0
    assert numbers["pairs"][0]["verdict"] == "not settled by these episodes"
    assert a["trained_on"] == [1]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--policy.path=RUN", "--dataset.root=DATA", "--episodes=2"], "write --episodes='[2]' for that episode"),
        (["--policy.path=RUN", "--dataset.root=DATA", "--episodes=[9]"], "numbers from 0 to 4"),
        (["--policy.path=RUN", "--dataset.root=DATA", "--env=libero"], "it is for a simulator"),
        (["--policy.path=RUN", "--episodes=held-out"], "add --dataset.root=DATA"),
        (["--policy.path=RUN", "--dataset.root=DATA/none"], "DATA/none"),
        (["--policy.path=RUN/none", "--dataset.root=DATA"], "there is no such checkpoint"),
        (["--policy.path=TINY", "--dataset.root=DATA"], "--allow=action-names"),
        (
            ["--policy.path=TINY", "--dataset.root=DATA", "--allow=action-names"],
            "does not tell which episodes its run held out",
        ),
        (["--dataset.root=DATA"], "pi05 eval needs a policy"),
        (["--compare", "RUN", "--dataset.root=DATA"], "at least two"),
        (["--policy.path=RUN", "RUN", "--dataset.root=DATA"], "is no flag"),
        (["--policy.path=RUN", "--dataset.root=DATA", "--output_dir=/proc/none"], "cannot evaluate"),
    ],
)
def test_what_cannot_be_is_refused(
    case: Recorded, words: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from pi05.train.config import TINY_BASE

    run = case.checkpoint.parent.parent
    before = sorted(path.name for path in run.iterdir())
    places = {"RUN": str(run), "DATA": str(case.data), "TINY": str(TINY_BASE)}
    for name, place in places.items():
        match = match.replace(f"{name}/", f"{place}/")
    given = [word if "'" in word else _put(word, places) for word in words]
    assert main(["eval", *given]) == 2
    assert match in capsys.readouterr().err
    assert sorted(path.name for path in run.iterdir()) == before


def _put(word: str, places: dict[str, str]) -> str:
    name, equals, value = word.rpartition("=")
    head, slash, tail = value.partition("/")
    return f"{name}{equals}{places.get(head, head)}{slash}{tail}"


@pytest.mark.slow
def test_a_real_recording(shared: Path, workshop: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Five episodes of a Dobot CR5 in velocities: what the run measured of its held-out episode is found again."""
    data = shared / "datasets" / "cr5_v30_5ep_onefile"
    if not data.is_dir():
        pytest.skip(f"no recording: {data} is not there")
    run = tmp_path / "run"
    flags = ["--policy.type=pi05", "--preset=tiny", f"--dataset.root={data}", f"--dataset.cache_dir={workshop.cache}"]
    flags += [f"--output_dir={run}", "--steps=40", "--batch_size=16", "--threads=1", "--eval_steps=40"]
    assert main(["train", *flags, "--log_freq=10", "--save_freq=40", "--eval_frames=1000"]) == 0
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    [measured] = [record for record in records if record["type"] == "eval"]
    words = [f"--policy.path={run}", f"--dataset.root={data}", "--policy.n_action_steps=1", "--threads=1"]
    assert main(["eval", *words, "--sensitivity_frames=4"]) == 0
    numbers = numbers_in(run / "open-loop-1")
    [policy] = numbers["policies"]
    assert numbers["looks"] == measured["frames"]  # every frame of the held-out episode in both
    assert policy["error"] == pytest.approx(measured["action_error"], rel=1e-3)
    assert numbers["baselines"]["mean action"]["error"] == pytest.approx(measured["baseline_error"], rel=1e-6)
    assert "holding the state" not in numbers["baselines"]  # its actions are velocities
