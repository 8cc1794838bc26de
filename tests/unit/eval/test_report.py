from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_pages import parse_page

from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig
from pi05.eval.episode import Spent
from pi05.eval.report import evaluation_page, output_folder, peer_rows, protocol_rows


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


def libero_result(measured: Any, lazy: Any, open_tabletop: Any, **rules: Any) -> Any:
    """Return a result as LIBERO's would be, made of what the table gave."""
    found = measured(lazy(), lambda: open_tabletop("demo", max_steps=4))
    environment = {**found.environment, "name": "libero", "family": "libero_goal", "notes": ["MuJoCo 4.0.0"]}
    seen = [{"episode": 0, "prompt": "Task: <open> the drawer", "pictures": {"scene": "data:image/png;base64,AA=="}}]
    return replace(
        found,
        environment=environment,
        rules={"protocol": "openpi", "departures": [], "tasks": ["a", "b"], **rules},
        memory_bytes=3 * 2**29,
        spent=Spent(physics_s=1.0, look_s=2.0, policy_s=0.5, steps=50, looks=10),
        seen=[{**seen[0], "size_px": 224}],
    )


def test_a_rate_of_libero_stands_beside_the_published_ones(measured: Any, lazy: Any, open_tabletop: Any) -> None:
    found = libero_result(measured, lazy, open_tabletop)
    assert peer_rows(found) == [
        ("this policy", found.success.render()),
        ("openpi", "490/500 = 98.0% (Wilson 95 %: 96.4% to 98.9%)"),
        ("lerobot", "98/100 = 98.0% (Wilson 95 %: 93.0% to 99.4%)"),
    ]
    page = parse_page(evaluation_page(found))
    assert "Neither table has an interval" in page.text
    assert "Task: <open> the drawer" in page.text
    assert "224 × 224 pixels" in page.text
    assert "1.50 GiB" in page.text
    told = "physics 20 ms per step, rendering 200 and policy 50 ms per look; 1.5 GiB of memory per environment"
    assert told in found.render()
    assert "20.0 ms per step" in page.text
    assert "note: MuJoCo 4.0.0" in found.render()
    table = measured(lazy(), lambda: open_tabletop("demo", max_steps=4))
    assert peer_rows(table) == []
    assert "Beside what others published" not in parse_page(evaluation_page(table)).text


def test_the_protocol_its_departures_and_the_other_s_rules_are_told(
    measured: Any, lazy: Any, open_tabletop: Any
) -> None:
    found = libero_result(measured, lazy, open_tabletop, departures=["seed 3 instead of 7"])
    rows = protocol_rows(found.rules, found.environment["notes"])
    assert ("steps in libero_spatial", "220 (lerobot: 280)") in rows
    assert ("departs from the protocol", "seed 3 instead of 7") in rows
    assert rows[-1] == ("simulator", "MuJoCo 4.0.0")
    assert ("departs from the protocol", "nowhere") in protocol_rows({"protocol": "lerobot", "departures": []}, [])
    assert "protocol                       openpi; departures from it: seed 3 instead of 7" in found.render()
    assert protocol_rows({"protocol": None}, []) == []


def test_the_newest_interrupted_evaluation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EvaluationError, match="no interrupted evaluation to go on with"):
        output_folder(EvalConfig(resume=True))
    for number in (1, 2, 3):
        (tmp_path / f"outputs/eval-tabletop-{number}/partial").mkdir(parents=True)
    for number in (1, 2):
        (tmp_path / f"outputs/eval-tabletop-{number}/partial/evaluation.json").write_text("{}")
    assert output_folder(EvalConfig(resume=True)) == Path("outputs/eval-tabletop-2")
    fresh = EvalConfig(resume=True, output_dir=str(tmp_path / "fresh"))
    assert output_folder(fresh) == tmp_path / "fresh"
    (tmp_path / "fresh" / "results.json").write_text("{}")
    with pytest.raises(EvaluationError, match="no interrupted evaluation"):
        output_folder(fresh)
    begun = EvalConfig(output_dir="outputs/eval-tabletop-1")
    with pytest.raises(EvaluationError, match="go on with it: --resume"):
        output_folder(begun)
