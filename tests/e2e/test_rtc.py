"""Trained with delays, evaluated with a delay, through the real commands; refusals are one message and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import pytest
from fake_policies import make_policy, save_policy

from pi05.cli import main
from pi05.policy import Policy


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained policy for the table-top robot that says what one trained with delays would say."""
    folder = tmp_path_factory.mktemp("rtc")
    policy = make_policy(fakes.write_tokenizer(folder / "tokenizer.json"))
    return save_policy(folder / "checkpoint", policy, rtc_max_delay=4)


def test_the_checkpoint_knows_its_delays(workshop: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", *workshop.flags(run, rtc_max_delay=4, steps=2, eval_steps=0, ema__enable=True)]) == 0
    assert Policy.load(run).max_delay == 4
    assert json.loads((run / "config.json").read_text())["rtc_max_delay"] == 4


def evaluate(trained: Path, *words: str) -> int:
    return main(["eval", f"--policy.path={trained}", "--env=tabletop", "--episodes=2", "--max_steps=12", *words])


@pytest.mark.parametrize("chunking", ["synchronous", "naive", "guided", "trained"])
def test_every_way_of_chunking_is_measured(
    trained: Path, tmp_path: Path, chunking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"--chunking={chunking}", "--delay=3", "--policy.n_action_steps=4", f"--output_dir={tmp_path / 'out'}")
    assert evaluate(trained, *words) == 0
    told = capsys.readouterr().out
    assert f"{chunking}, 3 control steps after their observation" in told
    assert "largest step at a seam         x_m 0." in told
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["rules"]["delay"], results["rules"]["chunking"]) == (3, chunking)
    assert len(results["largest_seam"]) == 3
    assert "largest step at a seam" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--chunking=trained", "--delay=4", "--policy.n_action_steps=4"), "--rtc_max_delay=4, so below 4"),
        (("--chunking=guided", "--delay=6"), "look again before the chunk for its last look is there"),
        (("--chunking=naive", "--delay=4", "--policy.n_action_steps=8"), "at most 10 together"),
        (("--chunking=sideways",), "synchronous"),
        (("--delay=-1",), "delay"),
    ],
)
def test_what_cannot_be_is_refused(
    trained: Path, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(trained, *words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--rtc_max_delay=1",), "0, or 2 and more"),
        (("--rtc_max_delay=11",), "at most 10"),
        (("--rtc_max_delay=6", "--policy.chunk_size=5"), "at most 5"),
        (("--policy.rtc_training_max_delay=3",), "--rtc_max_delay"),
    ],
)
def test_delays_that_cannot_be_trained_are_refused(
    workshop: Any, tmp_path: Path, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *workshop.flags(tmp_path / "run", steps=2), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
