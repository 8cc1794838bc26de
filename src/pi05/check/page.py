"""The page of `pi05 check`: findings first, then all that is needed to see for oneself whether they are true.

One file that loads nothing. Leaves out how pictures are chosen and drawn (`contact_sheets.py`), and the charts
themselves (`pages/small_charts.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from pi05.check.contact_sheets import as_seen, choose_episodes, contact_sheets, film
from pi05.check.normalised import share_outside, take_sample
from pi05.check.subject import Recipe, Subject
from pi05.errors import DataError
from pi05.files import write_atomic
from pi05.finding import Finding
from pi05.pages.page import render_page
from pi05.pages.small_charts import histogram, two_curves

PAGE = "check.html"
FILMS = 6
"""Episodes in the browser."""
MOST_DIMENSIONS = 16
MOST_TASKS = 6
REACH, BARS = 2.0, 60
"""Histograms run from -2 to 2."""
WORST_FIRST = ("error", "warning", "note", "ok")


def write_page(subject: Subject | None, findings: Sequence[Finding], folder: Path, *, name: str = "") -> Path:
    """Write `folder/check.html` and return its path; without a subject, a set that cannot be opened, the findings."""
    path = folder / PAGE
    write_atomic(path, check_page(subject, findings, name).encode())
    return path


def check_page(subject: Subject | None, findings: Sequence[Finding], name: str = "") -> str:
    """Return the page as text."""
    ordered = sorted(findings, key=lambda finding: WORST_FIRST.index(finding.status))
    counts = {status: sum(finding.status == status for finding in findings) for status in WORST_FIRST}
    values: dict[str, Any] = {"name": name, "findings": ordered, "counts": counts, "tiles": [], "tasks": []}
    values |= {part: [] for part in ("sheets", "films", "slots", "prompts", "histograms")}
    if subject is not None:
        recipe, episodes = subject.recipe, choose_episodes(subject, findings)
        few = choose_episodes(subject, findings, FILMS)
        values |= {
            "name": name or subject.dataset.root.resolve().name,
            "tiles": _tiles(subject),
            "tasks": _tasks(subject),
            "sheets": contact_sheets(subject, episodes),
            "films": [_film(subject, number) for number in few],
        }
        if recipe is not None:
            values |= {
                "slots": as_seen(subject, recipe, few[:3]),
                "prompts": _prompts(subject, recipe) if recipe.tokenizer_known else [],
                "histograms": _histograms(subject, recipe),
            }
    return render_page("check.html", **values)


def _tiles(subject: Subject) -> list[tuple[str, str]]:
    dataset = subject.dataset
    frames = sum(dataset.episodes[number].length for number in subject.episodes)
    tiles = [
        ("episodes", f"{len(subject.episodes):,}"),
        ("frames", f"{frames:,}"),
        ("minutes", f"{frames / dataset.fps / 60:,.1f}"),
        ("Hz", f"{dataset.fps:g}"),
        ("cameras", str(len(dataset.camera_keys))),
        ("state and action", f"{dataset.state_dim} and {dataset.action_dim}"),
    ]
    return tiles + ([] if subject.recipe is None else [("held out", str(len(subject.recipe.held_out)))])


def _tasks(subject: Subject) -> list[tuple[str, int]]:
    """Return each task and the number of its episodes, the most frequent first."""
    counts: dict[str, int] = {}
    for number in subject.episodes:
        for task in subject.dataset.episodes[number].tasks:
            counts[task] = counts.get(task, 0) + 1
    return sorted(counts.items(), key=lambda pair: -pair[1])


def _histograms(subject: Subject, recipe: Recipe) -> list[tuple[str, list[Markup], str]]:
    """Return the distributions of normalised states and actions, of what is trained on."""
    dataset, processor = subject.dataset, recipe.processor
    sample = take_sample(dataset, recipe.train_episodes, processor.horizon, processor.relative_mask)
    sides = (
        ("State", dataset.state_names, processor.state_normalizer.normalize(sample.states), None),
        (
            "Action",
            dataset.action_names,
            processor.action_normalizer.normalize(sample.actions),
            processor.relative_mask,
        ),
    )
    found = []
    for title, names, values, mask in sides:
        charts = []
        outside = share_outside(values)
        for i in range(min(values.shape[1], MOST_DIMENSIONS)):
            counts = np.histogram(values[:, i].clip(-REACH, REACH), bins=BARS, range=(-REACH, REACH))[0].tolist()
            kind = " (relative)" if mask is not None and mask[i] else ""
            beyond = f"{outside[i]:.1%} outside; {values[:, i].min():.3g} … {values[:, i].max():.3g}"
            charts.append(histogram(f"{i} {names[i] if i < len(names) else ''}{kind}", counts, -REACH, REACH, beyond))
        found.append((title, charts, _rest(values.shape[1])))
    return found


def _rest(dimensions: int) -> str:
    return f"the first {MOST_DIMENSIONS} of {dimensions} dimensions" if dimensions > MOST_DIMENSIONS else ""


def _film(subject: Subject, number: int) -> dict[str, Any]:
    """Return one episode of the browser: pictures and curves over the same frames."""
    dataset = subject.dataset
    episode = dataset.episodes[number]
    frames, films, missing = film(dataset, number)
    span = slice(episode.start, episode.start + episode.length)
    states, actions = dataset.states()[span], dataset.actions()[span]
    charts = []
    for i in range(min(max(dataset.state_dim, dataset.action_dim), MOST_DIMENSIONS)):
        state = states[:, i].tolist() if i < dataset.state_dim else []
        action = actions[:, i].tolist() if i < dataset.action_dim else []
        names = [kind[i] for kind in (dataset.state_names, dataset.action_names) if i < len(kind)]
        charts.append(two_curves(f"{i} {' / '.join(dict.fromkeys(map(str, names)))}", state, action))
    places = [(frame - episode.start) / max(1, episode.length - 1) for frame in frames]
    return {
        "number": number,
        "length": episode.length,
        "seconds": episode.length / dataset.fps,
        "task": ", ".join(episode.tasks),
        "cameras": {camera: pictures[0] for camera, pictures in films.items()},
        "data": Markup(json.dumps({"places": places, "films": list(films.values())}).replace("<", "\\u003c")),
        "last": len(frames) - 1,
        "missing": missing,
        "charts": charts,
        "rest": _rest(max(dataset.state_dim, dataset.action_dim)),
    }


def _prompts(subject: Subject, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the prompt of the first frame of some tasks: as text, and token by token."""
    dataset, processor = subject.dataset, recipe.processor
    found: dict[str, dict[str, Any]] = {}
    for number in subject.episodes:
        frame = dataset.episodes[number].start
        task = dataset.task(frame)
        if task in found or len(found) >= MOST_TASKS:
            continue
        try:
            ids = processor.encode_prompts([task], dataset.states()[frame][None])[0]
        except DataError as fault:
            found[task] = {"task": task, "text": fault.problem, "tokens": []}
            continue
        pieces = [(processor.tokenizer.decode([token]) or "·").replace("\n", "↵") for token in ids]
        tokens = list(zip(ids, pieces, strict=True))
        found[task] = {"task": task, "text": processor.tokenizer.decode(ids), "tokens": tokens}
    return list(found.values())
