"""The page of a training run: curves, held-out error, what the model saw, where it came from.

Leaves out reading the folder (`train/records/read.py`) and drawing (`charts.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from pi05.files import write_atomic
from pi05.pages.charts import Series, line_chart, number, smooth
from pi05.pages.page import fact_rows, render_page
from pi05.pages.pictures import still
from pi05.pages.watched import baseline_series, error_charts, finding_cards
from pi05.train.records.durations import duration
from pi05.train.records.read import read_run
from pi05.train.records.run_record import RunRecord, baselines_of, is_number

MOST_SAMPLES = 4
MOST_DIMENSION_CHARTS = 16
MOST_LISTED = 12


def write_run_report(run_dir: Path) -> Path:
    """Write RUN/report.html, which may be done while the run goes on, and return its path."""
    run_dir = Path(run_dir)
    page = run_dir / "report.html"
    write_atomic(page, run_page(read_run(run_dir)).encode())
    return page


def run_page(run: RunRecord) -> str:
    """Return the page of a run."""
    return render_page(
        "run.html",
        run=run,
        name=run.folder.resolve().name,
        tiles=_tiles(run),
        verdict=_verdict(run),
        learning=learning_charts(run),
        findings=finding_cards(run),
        held_out=[action_error_chart(run), *error_charts(run), *dimension_charts(run)],
        speed=_speed_charts(run),
        samples=_samples(run),
        parameters=_parameters(run),
        receipt=fact_rows(_short(run.receipt)),
        config=fact_rows(run.config),
    )


def learning_charts(run: RunRecord) -> list[Markup]:
    """Return the charts of loss, learning rate and gradient norm."""
    return [
        loss_chart(run),
        line_chart(
            "Learning rate", [Series("", run.points("train", "learning_rate"))], x_label="step", y_label="learning rate"
        ),
        line_chart(
            "Gradient norm before clipping",
            [Series("", run.points("train", "grad_norm"), 4)],
            x_label="step",
            y_label="norm",
            log=True,
        ),
    ]


def loss_chart(run: RunRecord) -> Markup:
    """Return the training loss, as logged and smoothed."""
    losses = run.points("train", "loss")
    window = max(1, len(losses) // 25)
    series = [Series("as logged", losses, 1, "faint"), Series(f"mean of {window}", smooth(losses, window), 1)]
    return line_chart(
        "Training loss",
        series if window > 1 else [Series("", losses)],
        x_label="step",
        y_label="flow-matching loss",
        log=True,
    )


def action_error_chart(run: RunRecord) -> Markup:
    """Return the held-out action error with its baselines."""
    return line_chart(
        "Action error, all dimensions",
        [
            Series("policy", run.points("eval", "action_error"), 3),
            *baseline_series(run),
        ],
        x_label="step",
        y_label="standard deviations of the actions",
    )


def dimension_charts(run: RunRecord) -> list[Markup]:
    """Return one chart per action dimension."""
    return [
        line_chart(
            name,
            [Series("policy", lines["error"], 3), Series("mean action", lines["baseline"], 6, "dashed")],
            x_label="step",
            y_label="root mean square error",
        )
        for name, lines in list(run.dimension_points().items())[:MOST_DIMENSION_CHARTS]
    ]


def _speed_charts(run: RunRecord) -> list[Markup]:
    waiting = [(x, 100 * y) for x, y in run.points("train", "data_wait")]
    return [
        line_chart(
            "Throughput",
            [Series("", run.points("train", "samples_per_second"), 2)],
            x_label="step",
            y_label="samples per second",
        ),
        line_chart("Waiting for data", [Series("", waiting, 6)], x_label="step", y_label="% of the time"),
    ]


def _tiles(run: RunRecord) -> list[tuple[str, str]]:
    train, evals = run.of("train"), run.of("eval")
    last = train[-1] if train else {}
    tiles = [("step", f"{run.last_step:,}" + (f" / {run.total_steps:,}" if run.total_steps else ""))]
    if is_number(last.get("samples")):
        epochs = f", {last['epochs']:.1f} epochs" if is_number(last.get("epochs")) else ""
        tiles.append((f"samples{epochs}", f"{last['samples']:,}"))
    if is_number(last.get("loss")):
        tiles.append(("loss, last logged", number(last["loss"])))
    errors = [r["action_error"] for r in evals if is_number(r.get("action_error"))]
    if errors:
        least = _least_baseline(evals[-1])
        against = "" if least is None else f"; {least[0]} {number(least[1])}"
        tiles.append((f"best action error{against}", number(min(errors))))
    speeds = [y for _, y in run.points("train", "samples_per_second")]
    if speeds:
        tiles.append(("samples per second, median", number(float(np.median(speeds)))))
    if is_number(last.get("seconds_left")) and run.last_step < (run.total_steps or 0):
        tiles.append(("left, by its own estimate", duration(last["seconds_left"])))
    return tiles


def _verdict(run: RunRecord) -> tuple[str, str] | None:
    """Say whether the held-out error beats the best baseline; nothing where it was not measured."""
    for record in reversed(run.of("eval")):
        error, least = record.get("action_error"), _least_baseline(record)
        if is_number(error) and least is not None:
            name, baseline = least
            if error < baseline:
                return (
                    "good",
                    f"On held-out episodes the action error is {error / baseline:.0%} of that of the best "
                    f"baseline, {name}.",
                )
            return "bad", f"On held-out episodes the actions are no better than {name}: {error:.3g}, {baseline:.3g}."
    return None


def _least_baseline(record: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the best baseline of a measurement."""
    return min(baselines_of(dict(record)).items(), key=lambda pair: pair[1], default=None)


def _samples(run: RunRecord) -> list[dict[str, Any]]:
    """Return pictures and prompt of the first few samples."""
    return [
        {
            "title": sample.title,
            "prompt": sample.prompt,
            "pictures": [(f"{slot}, as seen", _picture(path)) for slot, path in sample.pictures]
            + [(f"{slot}, before augmentation", _picture(path)) for slot, path in sample.originals],
        }
        for sample in run.samples[:MOST_SAMPLES]
    ]


def _picture(path: Path) -> str:
    with Image.open(path) as opened:
        return still(np.asarray(opened.convert("RGB")))


def _parameters(run: RunRecord) -> list[tuple[str, str, str]]:
    """Return the table of trained and untouched parameters, with its sum."""
    if not run.parameters:
        return []
    rows = [(part, *counts) for part, counts in run.parameters.items()]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return [(part, f"{trained:,}", f"{untouched:,}") for part, trained, untouched in rows]


def _short(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the receipt with long lists of names as their counts."""
    shown: dict[str, Any] = {}
    for name, value in receipt.items():
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > MOST_LISTED:
            shown[name] = f"{len(value)} tensors"
        elif isinstance(value, Mapping) and len(value) > MOST_LISTED:
            shown[name] = f"{len(value)} entries"
        else:
            shown[name] = value if value not in ({}, []) else "none"
    return shown
