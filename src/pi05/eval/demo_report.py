"""The front page of `pi05 demo`: the verdict, films before and after, the curves, the time, and links to the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pi05.eval.rate_charts import rate_scale, share_bar
from pi05.eval.report import film_cards
from pi05.eval.result import EvalResult, SuccessRate
from pi05.pages.page import fact_rows, render_page
from pi05.pages.run import action_error_chart, loss_chart
from pi05.train.records.durations import duration
from pi05.train.records.read import read_run

FILMS = 3
PAGES = {
    "run/report.html": "the training run: curves, what the model saw, configuration",
    "eval/report.html": "the fine-tuned policy on unseen layouts",
    "eval-base/report.html": "the base before fine-tuning",
    "eval-swapped/report.html": "the fine-tuned policy with swapped instructions",
}


def demo_page(
    summary: Mapping[str, Any],
    rates: Sequence[tuple[SuccessRate, float]],
    evaluations: tuple[EvalResult, EvalResult, EvalResult],
    folder: Path,
) -> str:
    """Return the page. `rates` are the goals' rates and limits, `evaluations` those of base, result, swapped."""
    before, after, swapped = evaluations
    run = read_run(folder / "run")
    stages = [(stage["name"], stage["seconds"]) for stage in summary["stages"]]
    return render_page(
        "demo.html",
        summary=summary,
        goals=list(zip(summary["goals"], [rate_scale(rate, limit) for rate, limit in rates], strict=True)),
        heeded=None if swapped.swapped_success is None else swapped.swapped_success.render(),
        total=duration(summary["seconds"]),
        stages=[(index, name, duration(s), s / summary["seconds"]) for index, (name, s) in enumerate(stages)],
        stage_bar=share_bar(stages),
        charts=[loss_chart(run), action_error_chart(run)],
        before=_films(before, "failure"),
        after=_films(after, "success"),
        after_failures=_films(after, "failure"),
        swapped=_films(swapped, "failure"),
        pages=PAGES,
        machine=fact_rows(summary["machine"]),
    )


def _films(result: EvalResult, outcome: Any) -> list[dict[str, Any]]:
    return film_cards(result.gallery.of(outcome)[:FILMS], 1000 / result.environment["fps"])
