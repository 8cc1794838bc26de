"""The folder and the page of an open-loop evaluation: one HTML file without network, and the numbers beside it.

Leaves out the drawing (`drawings.py`, `pages/`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pi05.data.lerobot.reader import Dataset
from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig
from pi05.eval.open_loop.drawings import (
    by_step_chart,
    by_task_bars,
    by_time_chart,
    error_bars,
    joint_charts,
    sensitivity_bars,
)
from pi05.eval.open_loop.errors import typical_episodes
from pi05.eval.open_loop.looks import observe
from pi05.eval.open_loop.result import OpenLoopResult
from pi05.eval.report import fresh_folder, run_folder_of
from pi05.eval.seen import seen_by, to_bytes
from pi05.files import write_atomic, write_json
from pi05.pages.charts import number
from pi05.pages.page import fact_rows, render_page
from pi05.pages.pictures import strip
from pi05.train.records.durations import duration

NUMBERS, REPORT = "open_loop.json", "report.html"
MOST_DRAWN = 3
"""Episodes whose joints are drawn."""
STILLS = 7


def open_loop_folder(config: EvalConfig, paths: list[str]) -> Path:
    """Create and return the folder of an evaluation; one that holds an evaluation already is refused."""
    if config.output_dir is None:
        parent = run_folder_of(paths[0]) if len(paths) == 1 else None
        return fresh_folder(parent or Path("outputs"), "open-loop")
    folder = Path(config.output_dir)
    for name in (NUMBERS, REPORT):
        if (folder / name).exists():
            raise EvaluationError(
                "the output folder holds an evaluation already",
                found=str(folder / name),
                remedy="choose another --output_dir, or remove that folder",
            )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_open_loop(result: OpenLoopResult, dataset: Dataset, folder: Path) -> Path:
    """Write page and numbers into `folder` and return the path of the page."""
    page = open_loop_page(result, dataset)
    write_atomic(folder / REPORT, page.encode())
    write_json(folder / NUMBERS, result.to_dict())  # last: where it stands, all is there
    return folder / REPORT


def open_loop_page(result: OpenLoopResult, dataset: Dataset) -> str:
    """Return the page of an evaluation."""
    first = result.policies[0]
    drawn = typical_episodes(first.errors.by_episode, MOST_DRAWN)
    sensitivities = [sensitivity_bars(policy, colour) for colour, policy in enumerate(result.policies, start=1)]
    return render_page(
        "open_loop.html",
        result=result,
        headline=_headline(result),
        verdicts=[result.verdict(policy) for policy in result.policies],
        tiles=[
            (f"episodes, {result.chosen.asked}", f"{len(result.chosen.numbers)}"),
            (f"looks, one every {result.looks.stride} frames", f"{len(result.looks)}"),
            ("actions of a chunk", f"{result.looks.valid.shape[1]}"),
            ("wall time", duration(result.wall_s)),
        ],
        error_chart=error_bars(result),
        drawn=[_drawn(result, dataset, episode, why) for episode, why in drawn],
        charts=[by_step_chart(result), by_time_chart(result)],
        task_chart=by_task_bars(result),
        sensitivities=[chart for chart in sensitivities if chart is not None],
        dimensions=_dimension_rows(result),
        episodes=_episode_rows(result),
        settings=fact_rows(result.config),
        policies=[(policy.name, fact_rows(policy.provenance)) for policy in result.policies],
        data=fact_rows(result.data),
        machine=fact_rows(result.machine),
    )


def _headline(result: OpenLoopResult) -> str:
    if len(result.policies) > 1:
        return f"{len(result.policies)} policies on the same episodes"
    return f"{result.policies[0].errors.whole.score:.3f} standard deviations from the demonstrator"


def _drawn(result: OpenLoopResult, dataset: Dataset, episode: int, why: str) -> dict[str, Any]:
    """Return what the page shows of one episode: what was seen, the instruction, a chart for each joint."""
    processor = result.policies[0].candidate.processor
    part = dataset.episodes[episode]
    frames = [part.start + round(i * (part.length - 1) / (STILLS - 1)) for i in range(min(STILLS, part.length))]
    shown = [processor.encode(observe(dataset, processor.slots.keys, frame)) for frame in dict.fromkeys(frames)]
    slot = next(i for i, real in enumerate(shown[0].image_mask) if real)
    several = len(result.policies) > 1
    errors = [f"{f'{p.name} ' * several}{number(p.errors.by_episode[episode])}" for p in result.policies]
    recorded = dataset.actions()[part.start : part.start + part.length].tolist()
    return {
        "episode": episode,
        "why": why if len(result.chosen.numbers) > 1 else "the one episode",
        "task": dataset.task(part.start),
        "error": ", ".join(errors),
        "seconds": f"{part.length / dataset.fps:.1f}",
        "seen": seen_by(processor, observe(dataset, processor.slots.keys, part.start)),
        "strip": strip([to_bytes(seen.images[slot]) for seen in shown], STILLS),
        "camera": processor.slots.keys[0],
        "charts": joint_charts(result, episode, recorded),
    }


def _dimension_rows(result: OpenLoopResult) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return name, and the errors in robot units with their colour: each policy's, the best baseline's; deviation."""
    rows = []
    for i, name in enumerate(result.action_names):
        least = float(result.baselines[result.best_baseline].whole.error[i])
        values = [float(policy.errors.whole.error[i]) for policy in result.policies]
        cells = [(number(value), "better" if value < least else "worse") for value in values]
        deviation = number(float(result.scale[i])) if result.scale[i] > 0 else "constant"
        rows.append((name, [*cells, (number(least), ""), (deviation, "")]))
    return rows


def _episode_rows(result: OpenLoopResult) -> list[tuple[int, str, list[str], str]]:
    """Return number, task, each policy's error, and who was trained on it."""
    rows = []
    for episode in result.chosen.numbers:
        values = [number(policy.errors.by_episode[episode]) for policy in result.policies]
        trained = [name for name, numbers in result.chosen.trained_on.items() if numbers and episode in numbers]
        rows.append((episode, result.data["tasks"][str(episode)], values, ", ".join(trained)))
    return rows
