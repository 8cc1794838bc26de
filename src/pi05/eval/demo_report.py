"""The front page of `pi05 demo`: the verdict, films before and after, the curves, the time, and links to the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi05.eval.episode import Outcome
from pi05.eval.rate_charts import rate_scale, share_bar
from pi05.eval.report import film_cards
from pi05.eval.result import EvalResult, SuccessRate
from pi05.pages.page import fact_rows, render_page
from pi05.pages.run import action_error_chart, loss_chart
from pi05.train.records.durations import duration
from pi05.train.records.read import read_run

FILMS = 3


@dataclass(frozen=True)
class Section:
    """Some films of one evaluation under a title; nothing is shown where there are none."""

    title: str
    result: EvalResult
    outcome: Outcome
    note: str | None = None


def demo_page(
    summary: Mapping[str, Any],
    rates: Sequence[tuple[SuccessRate, float]],
    sections: Sequence[Section],
    pages: Mapping[str, str],
    heeded: str | None,
    folder: Path,
) -> str:
    """Return the page. `rates` are the goals' rates and limits, `pages` other pages with what they show, and `heeded`
    how often a policy that was asked for something else did that.
    """
    run = read_run(folder / "run")
    stages = [(stage["name"], stage["seconds"]) for stage in summary["stages"]]
    return render_page(
        "demo.html",
        summary=summary,
        goals=list(zip(summary["goals"], [rate_scale(rate, limit) for rate, limit in rates], strict=True)),
        heeded=heeded,
        total=duration(summary["seconds"]),
        stages=[(index, name, duration(s), s / summary["seconds"]) for index, (name, s) in enumerate(stages)],
        stage_bar=share_bar(stages),
        charts=[loss_chart(run), action_error_chart(run)],
        sections=[(section.title, section.note, _films(section)) for section in sections],
        pages=pages,
        machine=fact_rows(summary["machine"]),
    )


def _films(section: Section) -> list[dict[str, Any]]:
    films = section.result.gallery.of(section.outcome)[:FILMS]
    return film_cards(films, 1000 / section.result.environment["fps"])
