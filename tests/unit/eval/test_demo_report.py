from __future__ import annotations

from pathlib import Path
from typing import Any

from report_pages import parse_page, write_run

from pi05.demo.goals import SuccessGoal
from pi05.demo.tabletop import PAGES
from pi05.eval.demo_report import FILMS, Section, demo_page


def test_the_front_page_shows_verdict_films_time_and_links(
    tmp_path: Path, measured: Any, expert: Any, lazy: Any, open_tabletop: Any
) -> None:
    write_run(tmp_path / "run")
    before = measured(lazy(), lambda: open_tabletop("demo", max_steps=3))
    after = measured(expert(), lambda: open_tabletop("demo"))
    swapped = measured(expert(), lambda: open_tabletop("demo"), swap_instruction=True)
    goals = [
        SuccessGoal(name="after", rate=after.success, limit=0.9, at_least=True),
        SuccessGoal(name="before", rate=before.success, limit=0.2, at_least=False),
        SuccessGoal(name="swapped", rate=swapped.success, limit=0.0, at_least=False, strict=True),
    ]
    summary = {
        "goals": [goal.to_dict() for goal in goals],
        "met": False,
        "demonstrations": 8,
        "steps": 100,
        "samples": 3200,
        "seed": 3,
        "date": "2025-11-22T12:00:00+00:00",
        "stages": [{"name": "collect <8>", "seconds": 30.0}, {"name": "fine-tune", "seconds": 90.0}],
        "seconds": 120.0,
        "machine": {"cpu_cores": 2},
    }
    rates = [(goal.rate, goal.limit) for goal in goals]
    sections = [
        Section("After", after, "success"),
        Section("Where it still fails", after, "failure"),
        Section("Before", before, "failure", "It has never seen <them>."),
        Section("Asked for something else", swapped, "failure"),
    ]
    assert swapped.swapped_success is not None
    text = demo_page(summary, rates, sections, PAGES, swapped.swapped_success.render(), tmp_path)
    page = parse_page(text)
    assert "Not all goals are met." in page.text
    assert "From demonstrations to a policy, in 2 min 00 s" in page.text
    assert "met: at least 90%" in page.text
    assert "missed: under 0%" in page.text
    assert "6 of 6 episodes, Wilson 95 %: 61% to 100%" in page.text
    assert "It reached the goal that it was asked for in 6/6 = 100.0%" in page.text.replace("\n", " ")
    assert "collect <8>" in page.text
    assert ("75%" in page.text, "25%" in page.text) == (True, True)
    assert [address for address in page.addresses if "report.html" in address] == list(PAGES)
    films = [address for address in page.addresses if address.startswith("data:image/webp")]
    stills = {
        name: min(len(result.gallery.of(outcome)), FILMS)
        for name, result, outcome in (
            ("before", before, "failure"),
            ("after", after, "success"),
            ("swapped", swapped, "failure"),
        )
    }
    assert stills == {"before": 2, "after": 2, "swapped": 2}
    assert len(films) > sum(stills.values())
    assert "Where it still fails" not in page.text
    assert "It has never seen <them>." in page.text
    assert "Training loss" in page.text
