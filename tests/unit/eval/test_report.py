from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_pages import parse_page

from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig
from pi05.eval.report import evaluation_page, output_folder


def test_the_evaluation_page_shows_what_was_measured(measured: Any, expert: Any, broken_tabletop: Any) -> None:
    result = measured(expert(), lambda: broken_tabletop("demo"))
    page = parse_page(evaluation_page(result))
    assert "100%" in page.text
    assert result.success.render() in page.text
    assert page.text.count("simulator exception") >= 3
    assert "FloatingPointError: the solver diverged" in page.text
    assert "exception in 3 of\n6 episodes" in page.text
    for episode in result.episodes:
        assert str(episode.seed) in page.text
    for name in result.by_instruction:
        assert name in page.text
    assert "state dimension 0 is <9>." in page.text  # escaped in the source, or the parser would see a tag
    assert len(page.addresses) == 2 * (1 + 7)  # two successes, each a clip and seven stills
    assert "runs/mine" in page.text
    assert "step 1,200" in page.text


def test_failures_and_swaps_have_their_films(measured: Any, expert: Any, lazy: Any, open_tabletop: Any) -> None:
    idle = parse_page(evaluation_page(measured(lazy(), lambda: open_tabletop("demo", max_steps=4))))
    assert "Failures" in idle.text
    assert "Successes" not in idle.text
    swapped = measured(expert(), lambda: open_tabletop("demo"), swap_instruction=True)
    page = parse_page(evaluation_page(swapped))
    assert "reached the goal that was asked for: 6/6 = 100.0%" in page.text
    assert "reached the original goal: 0/6 = 0.0%" in page.text
    assert "did what was asked" in page.text
    assert swapped.episodes[0].asked in page.text


def test_an_evaluation_never_overwrites_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert output_folder(EvalConfig()) == Path("outputs/eval-tabletop-1")
    assert output_folder(EvalConfig()) == Path("outputs/eval-tabletop-2")
    chosen = EvalConfig(output_dir=str(tmp_path / "mine"))
    assert output_folder(chosen) == tmp_path / "mine"
    (tmp_path / "mine" / "results.json").write_text("{}")
    with pytest.raises(EvaluationError, match="holds an evaluation already"):
        output_folder(chosen)
