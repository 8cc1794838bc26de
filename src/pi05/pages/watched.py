"""What the watchers of a run found, as a part of its page: sentences, error by step and dimension, what inputs do.

Leaves out the rest of the page (`run.py`) and what the numbers mean (`docs/training.md`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from markupsafe import Markup

from pi05.pages.bars import Bar, bar_chart
from pi05.pages.charts import Series, line_chart
from pi05.train.records.run_record import RunRecord, is_number

CLASSES = {"error": "bad", "warning": "", "note": "good"}
"""Style of a finding's card, by its status; `good` has the quiet colour."""
BASELINE_COLOURS = {"mean action": 6, "holding the last action": 2, "holding the state": 4, "nearest training frame": 1}
MOST_DIMENSIONS = 32


def finding_cards(run: RunRecord) -> list[dict[str, str]]:
    """Return the findings of a run, each once, with the steps at which it began; the latest first."""
    cards: dict[str, dict[str, Any]] = {}
    for record in run.findings:
        words = str(record.get("words") or record.get("text"))
        card = cards.setdefault(str(record.get("name")), {"steps": []})
        card["steps"].append(str(record.get("step", "?")))
        card |= {
            "words": words[:1].upper() + words[1:],
            "effect": str(record.get("effect", "")),
            "remedy": str(record.get("remedy", "")),
            "style": CLASSES.get(str(record.get("status")), ""),
        }
    often = _most_often(run)
    shown = [
        {**card, "steps": _steps(card["steps"]) + (often if name == "loss.spike" else "")}
        for name, card in cards.items()
    ]
    return list(reversed(shown))


def _most_often(run: RunRecord, most: int = 5) -> str:
    """Return whose frames made the spikes of a run, where some did so more than once."""
    spikes = [record.get("numbers") for record in run.findings if record.get("name") == "loss.spike"]
    episodes = [numbers.get("episodes") for numbers in spikes if isinstance(numbers, dict)]
    counts = Counter(str(each) for found in episodes if isinstance(found, list) for each in found)
    again = [f"episode {episode} ({count} times)" for episode, count in counts.most_common(most) if count > 1]
    return f"; most often {', '.join(again)}" if again else ""


def _steps(steps: list[str], most: int = 4) -> str:
    more = f" and {len(steps) - most} times more" if len(steps) > most else ""
    return f"step {', '.join(steps[:most])}{more}"


def error_charts(run: RunRecord) -> list[Markup]:
    """Return the charts of the newest held-out measurement; none for a run that did not measure these."""
    latest = next((r for r in reversed(run.of("eval")) if r.get("error_by_step") or r.get("effects")), None)
    if latest is None:
        return []
    return [step_chart(latest), dimension_bars(latest), effect_bars(latest)]


def step_chart(record: dict[str, Any]) -> Markup:
    """Return the error of each step of the chunk, with the baselines."""
    series = []
    for name, values in (record.get("error_by_step") or {}).items():
        points = [(float(i + 1), float(value)) for i, value in enumerate(values) if is_number(value)]
        policy = name == "policy"
        series.append(Series(name, points, 3 if policy else _colour(name), "line" if policy else "dashed"))
    return line_chart(
        f"Error by step of the chunk, at step {record.get('step')}",
        series,
        x_label="step of the chunk",
        y_label="standard deviations",
    )


def dimension_bars(record: dict[str, Any]) -> Markup:
    """Return the error of each dimension in standard deviations, with the best baseline's; none of constant ones."""
    bars = []
    for name, values in list((record.get("dimensions") or {}).items())[:MOST_DIMENSIONS]:
        error, least, deviation = (values.get(key) for key in ("error", "best_baseline", "deviation"))
        if is_number(error) and is_number(deviation) and deviation > 0:
            bars.append(Bar(name, error / deviation, least / deviation if is_number(least) else None))
    best = str(record.get("best_baseline", "best baseline"))
    return bar_chart("Error by dimension", bars, unit="standard deviations", mark=best)


def effect_bars(record: dict[str, Any]) -> Markup:
    """Return how far the actions move without each input."""
    effects = (record.get("effects") or {}).items()
    bars = [Bar(name, float(value)) for name, value in effects if is_number(value) and value >= 0]
    return bar_chart("How far the actions move without an input", bars, unit="standard deviations", colour=1)


def _colour(baseline: str) -> int:
    return BASELINE_COLOURS.get(baseline, 6)


def baseline_series(run: RunRecord) -> list[Series]:
    """Return a dashed line for each baseline over the run."""
    return [Series(name, points, _colour(name), "dashed") for name, points in run.baseline_points().items()]
