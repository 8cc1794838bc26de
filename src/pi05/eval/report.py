"""The folder and the page of an evaluation.

The page is one HTML file without network. Leaves out the drawing (`pages/`, `rate_charts.py`) and all judgement: a page
shows what was measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pi05.checkpoint.locate import locate
from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig
from pi05.eval.film import Film
from pi05.eval.rate_charts import rate_bars, rate_scale
from pi05.eval.result import EvalResult
from pi05.files import write_atomic, write_json
from pi05.pages.page import fact_rows, render_page
from pi05.pages.pictures import clip, strip
from pi05.train.records.durations import duration

RESULTS, REPORT = "results.json", "report.html"


def output_folder(config: EvalConfig) -> Path:
    """Create and return the folder of an evaluation; one that holds results already is refused."""
    if config.output_dir is not None:
        folder = Path(config.output_dir)
        if (folder / RESULTS).exists():
            raise EvaluationError(
                "the output folder holds an evaluation already",
                found=str(folder / RESULTS),
                remedy="choose another --output_dir, or remove that folder",
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    parent = Path("outputs")
    if config.policy.path is not None:
        checkpoint = locate(config.policy.path).folder
        if checkpoint.parent.name == "checkpoints":
            parent = checkpoint.parent.parent
    return fresh_folder(parent, f"eval-{config.env}")


def fresh_folder(parent: Path, name: str, first: int = 1) -> Path:
    """Create and return `parent/name-N` with the first N from `first` that is free."""
    for index in itertools.count(first):
        folder = parent / f"{name}-{index}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there is always a next number")


def write_evaluation(result: EvalResult, folder: Path) -> Path:
    """Write results.json and report.html into `folder` and return the path of the page."""
    write_json(folder / RESULTS, result.to_dict())
    page = folder / REPORT
    write_atomic(page, evaluation_page(result).encode())
    return page


def evaluation_page(result: EvalResult) -> str:
    """Return the page of an evaluation."""
    swapped = result.swapped_success
    frame_ms = 1000 / result.environment["fps"]
    if swapped is None:
        rates = [("success", result.success)]
    else:
        rates = [("reached the original goal", result.success), ("reached the goal that was asked for", swapped)]
    failures = film_cards(result.gallery.of("failure"), frame_ms)
    seeds = [episode.seed for episode in result.episodes]
    rate = result.success.value
    return render_page(
        "evaluation.html",
        result=result,
        swapped=swapped is not None,
        headline="no episode counts" if rate is None else f"{rate:.0%} success",
        rates=rates,
        charts=[rate_scale(rate) for _, rate in rates],
        tiles=[
            ("episodes that count", f"{len(result.counted)}"),
            ("simulator exceptions", f"{len(result.errors)}"),
            ("first and last seed", f"{min(seeds)} … {max(seeds)}"),
            ("wall time", duration(result.wall_s)),
        ],
        instruction_chart=rate_bars(list(result.by_instruction.items())),
        successes=film_cards(result.gallery.of("success"), frame_ms),
        failures=failures,
        heeded=failures,
        settings=fact_rows(result.config | {"environment": result.environment}),
        policy=fact_rows(result.policy),
        machine=fact_rows(result.machine),
    )


def film_cards(films: Sequence[Film], frame_ms: float) -> list[dict[str, Any]]:
    """Return what the page shows of each film, played at the speed of the robot."""
    return [
        {
            "episode": film.episode,
            "strip": strip(film.frames),
            "clip": clip(film.frames, max(20, round(frame_ms * film.stride))),
        }
        for film in films
    ]
