"""From settings to page and numbers, with policies whose answers are known; so are `result`, `drawings` and `page`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_cases import EPISODES, Demonstrator, Recorded, write_checkpoint
from report_pages import parse_page

from pi05.data.lerobot.reader import Dataset
from pi05.errors import ConfigError, EvaluationError
from pi05.eval.config import EvalConfig, EvalDatasetConfig
from pi05.eval.open_loop.candidate import Candidate
from pi05.eval.open_loop.drawings import joint_charts
from pi05.eval.open_loop.evaluate import evaluate_open_loop
from pi05.eval.open_loop.page import NUMBERS, REPORT
from pi05.eval.open_loop.result import OpenLoopResult
from pi05.settings.fields import find_fault
from pi05.train.records.fields import OpenLoop

Evaluate = Callable[..., tuple[OpenLoopResult, dict[str, Any], str]]


@pytest.fixture
def evaluate(case: Recorded, dataset: Dataset, tmp_path: Path) -> Evaluate:
    """Evaluate scripted policies in the place of the checkpoint's; return the result, the numbers and the page."""

    def run(
        *policies: Demonstrator, paths: list[str] | None = None, **settings: Any
    ) -> tuple[OpenLoopResult, dict[str, Any], str]:
        waiting = list(policies)
        root = EvalDatasetConfig(root=str(case.data))
        config = EvalConfig(
            **{"dataset": root, "output_dir": str(tmp_path / "out"), "sensitivity_frames": 0, **settings}
        )

        def load(_: Candidate) -> Any:
            return waiting.pop(0)

        result = evaluate_open_loop(config, paths or [str(case.checkpoint)] * len(policies), load=load, console=False)
        numbers = json.loads((tmp_path / "out" / NUMBERS).read_text())
        return result, numbers, (tmp_path / "out" / REPORT).read_text()

    return run


def test_what_stood_still_is_told_above_its_chart(evaluate: Evaluate, dataset: Dataset) -> None:
    """An axis that fits what is drawn shows a policy's noise around a constant like movement."""
    result, _, _ = evaluate(Demonstrator(dataset))
    recorded = [[0.25, *map(float, range(1, len(result.action_names)))] for _ in range(4)]
    recorded[2][1] += 1
    charts = joint_charts(result, 3, recorded)
    names = [re.search("<figcaption>(.*?)</figcaption>", str(chart)) for chart in charts[:2]]
    assert [name and name.group(1) for name in names] == [
        f"{result.action_names[0]} (recorded: 0.25 throughout)",
        result.action_names[1],
    ]


def test_a_perfect_policy_has_no_error(evaluate: Evaluate, dataset: Dataset) -> None:
    result, numbers, page = evaluate(Demonstrator(dataset))
    [policy] = numbers["policies"]
    assert policy["error"] == policy["error_of_executed"] == 0
    assert set(policy["by_episode"]) == {"3"}
    assert policy["by_step"] == [0.0] * 10
    assert (numbers["asked"], numbers["episodes"], numbers["looks"], numbers["stride"]) == ("held-out", [3], 3, 5)
    assert min(errors["error"] for errors in numbers["baselines"].values()) > 0.5
    assert policy["trained_on"] == []
    assert find_fault(OpenLoop, numbers) is None  # the page of the run reads it
    assert numbers["data"]["root"]
    assert result.verdict(result.policies[0])[0] == "good"
    shown = parse_page(page)
    assert "0.000 standard deviations from the demonstrator" in shown.text
    assert shown.tags.count("polyline") > 3 * 3  # recorded, predicted and whole chunks of three joints
    assert "put the green block on the white plate, State:" in shown.text


def test_an_offset_has_its_size(evaluate: Evaluate, dataset: Dataset) -> None:
    _, numbers, page = evaluate(Demonstrator(dataset, offset=0.25))
    [policy] = numbers["policies"]
    assert [dimension["error"] for dimension in policy["dimensions"].values()] == pytest.approx([0.25] * 3, rel=1e-4)
    deviations = list(numbers["deviations"].values())
    assert policy["error"] == pytest.approx(sum(0.25 / value for value in deviations) / 3, rel=1e-4)
    assert policy["sensitivity"] is None
    assert "What it reads" not in page


def test_a_blind_policy_is_told(evaluate: Evaluate, dataset: Dataset) -> None:
    result, numbers, page = evaluate(Demonstrator(dataset, blind=True), sensitivity_frames=4)
    assert {effect["moved"] for effect in numbers["policies"][0]["sensitivity"]["effects"]} == {0.0}
    told = "the actions hardly move whatever it is given as scene, wrist, state, instruction"
    assert told in result.render()
    assert page.count("not read") > 6


def test_draws_have_a_spread(evaluate: Evaluate, dataset: Dataset) -> None:
    _, numbers, page = evaluate(Demonstrator(dataset, jitter=0.5), draws=3)
    deviations = list(numbers["deviations"].values())
    expected = sum(0.5 / value for value in deviations) / 3
    assert numbers["policies"][0]["spread"] == pytest.approx(expected, rel=0.25)
    assert numbers["policies"][0]["error"] == pytest.approx(expected, rel=0.25)
    assert "spread among draws" in page
    assert "3 draws of the noise" in page


def test_policies_are_compared_episode_by_episode(evaluate: Evaluate, dataset: Dataset) -> None:
    policies = (Demonstrator(dataset, offset=0.2), Demonstrator(dataset), Demonstrator(dataset, offset=0.3))
    result, numbers, page = evaluate(*policies, episodes="all")
    assert [policy["name"] for policy in numbers["policies"]] == ["A", "B", "C"]
    assert [(found["b"], found["verdict"]) for found in numbers["pairs"]] == [
        ("B", "B is closer to the demonstrator"),
        ("C", "A is closer to the demonstrator"),
    ]
    assert numbers["pairs"][0]["b_better"] == len(EPISODES)
    assert "4 of 5 episodes were trained on by A and B and C" in numbers["warnings"][0]
    assert "warning: 4 of 5 episodes were trained on" in result.render()
    text = parse_page(page).text
    assert "Which is closer" in text
    assert [why for why in ("typical", "worst", "best") if f"({why})" in text]
    assert re.search(r"A: put the red block on the blue plate", text)


def test_other_numbers_of_actions_are_cut_to_the_fewest(
    evaluate: Evaluate, case: Recorded, dataset: Dataset, tmp_path: Path
) -> None:
    shorter = write_checkpoint(tmp_path, case.data, n_action_steps=2, horizon=6)
    paths = [str(case.checkpoint), str(shorter)]
    result, numbers, _ = evaluate(Demonstrator(dataset), Demonstrator(dataset), paths=paths)
    assert (numbers["stride"], numbers["horizon"]) == (2, 6)
    assert [policy["error"] for policy in numbers["policies"]] == [0, 0]
    assert result.remarks == (
        "these policies differ in the actions of a chunk (6, 10): 6 for all",
        "these policies differ in the actions carried out before the next look (2, 5): 2 for all",
    )


def test_nothing_is_left_of_what_was_interrupted(evaluate: Evaluate, dataset: Dataset, tmp_path: Path) -> None:
    class Interrupted(Demonstrator):
        def infer_batch(self, *_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(Interrupted(dataset))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        evaluate(Interrupted(dataset))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_a_folder_with_an_evaluation_is_not_written_into(evaluate: Evaluate, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / REPORT).write_text("earlier")
    with pytest.raises(EvaluationError, match="holds an evaluation already"):
        evaluate(Demonstrator(dataset))
    assert (tmp_path / "out" / REPORT).read_text() == "earlier"


def test_several_processes_and_too_many_policies_are_refused(
    evaluate: Evaluate, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="1 to 5"):
        evaluate(*[Demonstrator(dataset)] * 6)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(EvaluationError, match="by one process"):
        evaluate(Demonstrator(dataset))
