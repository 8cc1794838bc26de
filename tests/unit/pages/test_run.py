from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_pages import parse_page, write_run

from pi05.errors import EvaluationError
from pi05.pages.run import run_page, write_run_report
from pi05.train.records.read import read_run


def test_the_run_page_shows_curves_inputs_and_origin(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    path = write_run_report(tmp_path / "run")
    assert path == tmp_path / "run" / "report.html"
    text = path.read_text(encoding="utf-8")
    page = parse_page(text)
    for chart in ("Training loss", "Learning rate", "Gradient norm", "Action error", "x_m", "grip", "Throughput"):
        assert chart in page.text
    assert page.tags.count("polyline") == 4 + 2 * 3 + 1  # loss, rate, norm, speed, waiting; three errors with baseline
    assert "finished at step 100 of 100" in page.text
    assert "2% of that of the best baseline, mean action" in page.text
    assert "Task: put it <there>;\nAction: " in page.text
    assert len(page.addresses) == 2
    assert "30 tensors" in page.text
    assert "base<1>" in page.text
    assert re.search(r"policy: 0\.005 at step 100", text)  # a title for the mouse


def test_a_run_that_goes_on_or_was_killed_is_reported(tmp_path: Path) -> None:
    write_run(tmp_path, steps=40, evals=False)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"type": "train", "step": 50, "lo')
    page = parse_page(run_page(read_run(tmp_path)))
    assert "step 40 of 100; no end is recorded, so it is running or was killed" in page.text
    assert "its last line is cut off" in page.text
    assert "none was saved yet" in page.text
    assert "no data yet" in page.text  # the held-out error
    assert "60 s" in page.text  # left, by its own estimate


def test_evaluations_in_the_run_folder_are_linked(tmp_path: Path) -> None:
    write_run(tmp_path)
    rate = {"successes": 6, "trials": 6, "rate": 1.0, "wilson_low": 0.61, "wilson_high": 1.0}
    environment, date = {"name": "tabletop", "family": "demo"}, "2025-11-22T12:00:00+00:00"
    result = {"success": rate, "swapped_success": None, "environment": environment, "policy": {"step": 7}, "date": date}
    (tmp_path / "eval-tabletop-1").mkdir()
    (tmp_path / "eval-tabletop-1" / "results.json").write_text(json.dumps(result))
    page = parse_page(run_page(read_run(tmp_path)))
    assert "eval-tabletop-1/report.html" in page.addresses
    assert "6/6 = 100%" in page.text


def test_evaluations_on_recorded_episodes_are_linked_with_their_errors(tmp_path: Path) -> None:
    write_run(tmp_path)
    result = {
        "policies": [{"name": "policy", "step": 7, "error": 0.4321}, {"name": "B", "step": None, "error": 0.5}],
        "baselines": {"mean action": {"error": 1.1}, "repeat state": {"error": 0.8765}},
        "episodes": [3, 17],
        "asked": "held-out",
        "data": {"root": "/data/<cubes>"},
        "date": "2025-11-22T12:00:00+00:00",
    }
    (tmp_path / "open-loop-1").mkdir()
    (tmp_path / "open-loop-1" / "open_loop.json").write_text(json.dumps(result))
    (tmp_path / "open-loop-2").mkdir()
    (tmp_path / "open-loop-2" / "open_loop.json").write_text(json.dumps({"policies": [{"name": "policy"}]}))
    page = parse_page(run_page(read_run(tmp_path)))
    assert page.addresses.count("open-loop-1/report.html") == 2  # one line for each policy
    assert "2, held-out" in page.text
    assert "/data/<cubes>" in page.text
    assert "step 7" in page.text
    assert "0.432" in page.text
    assert "repeat state 0.876" in page.text  # the best of what needs no learning
    assert "open-loop-2/open_loop.json" in page.text  # cannot be read, and is told
    assert "open-loop-2/report.html" not in page.addresses


def test_a_run_without_evaluations_speaks_of_none(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert "Evaluations" not in parse_page(run_page(read_run(tmp_path))).text


def test_what_could_not_be_read_is_told_on_the_page(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "step0/scene_0.png").write_bytes(b"not a picture")
    (tmp_path / "config.json").write_text('{"policy": {"use_peft": true}, "peft": {"r": 8}}')
    page = parse_page(write_run_report(tmp_path).read_text(encoding="utf-8"))
    assert "step0/scene_0.png: cannot be shown (UnidentifiedImageError)" in page.text
    assert "LoRA, rank 8" in page.text


def test_what_is_no_run_gets_no_page(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="not a run"):
        write_run_report(tmp_path)
    assert not any(tmp_path.iterdir())
