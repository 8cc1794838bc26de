"""What the watchers of a run recorded, on its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from report_pages import parse_page, watched_records, write_run

from pi05.pages.run import run_page
from pi05.pages.watched import error_charts, finding_cards
from pi05.train.records.read import read_run
from pi05.train.records.run_record import RunRecord


def watched_run(folder: Path) -> RunRecord:
    write_run(folder, evals=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in watched_records())
    return read_run(folder)


def test_each_finding_is_shown_once_with_its_steps_what_it_means_and_what_to_do(tmp_path: Path) -> None:
    run = watched_run(tmp_path)
    spike, camera = finding_cards(run)
    assert spike["words"] == "The loss jumped to 9"
    assert camera["steps"] == "step 50, 100"
    page = parse_page(run_page(run))
    for text in ("What was noticed", "The camera top has no effect", "the policy is <blind> there", "look at step0/"):
        assert text in page.text
    assert page.text.count("The camera top has no effect") == 1


def test_the_verdict_is_against_the_best_baseline(tmp_path: Path) -> None:
    page = parse_page(run_page(watched_run(tmp_path)))
    assert "On held-out episodes the actions are no better than holding the last action: 0.5, 0.4." in page.text
    assert "best action error; holding the last action 0.4" in page.text


def test_errors_by_step_and_dimension_and_what_inputs_do_are_drawn(tmp_path: Path) -> None:
    steps, dimensions, effects = error_charts(watched_run(tmp_path))
    assert steps.count("<polyline") == 3
    assert "Error by step of the chunk, at step 100" in steps
    assert "policy: 0.5 at step of the chunk 2" in steps
    assert "x_m: 0.5; holding the last action 0.25" in dimensions
    assert "still" not in dimensions, "a constant dimension has no standard deviation"
    assert "camera top: 0.001" in effects
    assert "state: 0.4" in effects


def test_a_run_of_version_0_1_has_none_of_it(tmp_path: Path) -> None:
    write_run(tmp_path)
    run = read_run(tmp_path)
    assert (finding_cards(run), error_charts(run)) == ([], [])
    assert "What was noticed" not in parse_page(run_page(run)).text


def a_run(records: list[dict[str, Any]]) -> RunRecord:
    return RunRecord(
        folder=Path(), config={}, receipt={}, records=records, samples=[], parameters={}, checkpoints=[],
        best_checkpoint=None, evaluations=[], open_loop=[], missing=[], idle_s=None,
    )  # fmt: skip


def test_many_spikes_are_counted() -> None:
    records = [{"type": "watch", "step": step, "name": "loss.spike", "words": "jump"} for step in range(9)]
    (card,) = finding_cards(a_run(records))
    assert card["steps"] == "step 0, 1, 2, 3 and 5 times more"


def test_whose_frames_made_the_spikes_is_counted() -> None:
    episodes: list[Any] = [[27], [27, 3], [325], [27], [325], [], None, "27"]
    records = [
        {"type": "watch", "step": step, "name": "loss.spike", "words": "jump", "numbers": {"episodes": own}}
        for step, own in enumerate(episodes)
    ]
    (card,) = finding_cards(a_run(records))
    assert card["steps"].endswith("4 times more; most often episode 27 (3 times), episode 325 (2 times)")
    (other,) = finding_cards(a_run([{**records[0], "name": "inputs.camera"}] * 3))
    assert "most often" not in other["steps"]
