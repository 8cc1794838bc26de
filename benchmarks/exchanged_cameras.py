"""Two cameras that have changed places: how often it is told, and how often of cameras that have not.

    python benchmarks/exchanged_cameras.py --data outputs/libero-demo/data outputs/demo/data

Each data set has two cameras or more. Its episodes are divided in turn: of four, three are those that a policy learns
from, and the looks of the fourth are judged, as they are and with the two first cameras exchanged: each look alone,
and in the order of its episode, as a robot sends them (`RecentLooks`). Then the looks of every other data set with
cameras of the same names are judged by what this one has learned: scenes that it was not trained on.

Prints a table and writes benchmarks/results/exchanged_cameras_DATE.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pi05.data.lerobot.reader import Dataset
from pi05.data.resize import OPENPI_RESIZE, fit_image
from pi05.data.robot.camera_view import CameraView, shrink
from pi05.data.robot.camera_views import exchanged, views_of
from pi05.data.robot.guard import unlike_training
from pi05.data.robot.recent_looks import RecentLooks
from pi05.machine import machine_info

SIDE = 224
FRAMES = 30
"""Looks of an episode, spread evenly."""


def episodes_of(dataset: Dataset, most: int) -> list[np.ndarray]:
    """Return some looks (looks, cameras, 8, 8, 3) of up to so many episodes."""
    chosen = np.unique(np.linspace(0, dataset.num_episodes - 1, most).round().astype(int))
    found = []
    for number in chosen.tolist():
        episode = dataset.episodes[number]
        frames = np.unique(np.linspace(0, episode.length - 1, FRAMES).round().astype(int)) + episode.start
        looks = [
            [shrink(fit_image(dataset.image(key, int(frame)), SIDE, OPENPI_RESIZE)) for key in dataset.camera_keys[:2]]
            for frame in frames
        ]
        found.append(np.array(looks))
    return found


def judged(views: dict[str, CameraView], episodes: Sequence[np.ndarray], *, change: bool) -> dict[str, Any]:
    """Return in how many looks a change of places is told: alone, and after the looks before it."""
    slots = dict(zip(("a", "b"), ("camera a", "camera b"), strict=True))
    alone = together = other = count = 0
    for episode in episodes:
        looks = RecentLooks()
        for pair in episode[:, ::-1] if change else episode:
            count += 1
            alone += bool(exchanged(dict(zip(slots, pair, strict=True)), views))
            told = unlike_training(pair, slots, views, looks)
            together += any(each.displaced for each in told)
            other += any(not each.displaced for each in told)
    return {"looks": count, "alone": alone, "in_order": together, "told_otherwise": other}


def main() -> None:
    """Judge, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=80)
    newest = Path(__file__).parent / "results" / f"exchanged_cameras_{date.today().isoformat()}.json"
    parser.add_argument("--to", type=Path, default=newest)
    given = parser.parse_args()
    sets = {str(path): episodes_of(Dataset(path), given.episodes) for path in given.data}
    rows = []
    for name, own in sets.items():
        learned = [each for number, each in enumerate(own) if number % 4]
        starts = np.cumsum([0, *map(len, learned)])
        stack = np.concatenate(learned)
        ranges = [range(a, b) for a, b in pairwise(starts.tolist())]
        views = views_of(stack.__getitem__, ["a", "b"], ranges)
        apart = {slot: view.apart for slot, view in views.items()}
        row: dict[str, Any] = {"learned_from": name, "episodes": len(learned), "told_apart": bool(any(apart.values()))}
        row["exchanged"] = judged(views, own[::4], change=True)
        row["as_they_are"] = judged(views, own[::4], change=False)
        row["strange_scenes"] = {
            other: judged(views, looks, change=False) for other, looks in sets.items() if other != name
        }
        rows.append(row)
        print(json.dumps(row))
    found = {"date": date.today().isoformat(), "machine": machine_info(), "rows": rows}
    given.to.write_text(json.dumps(found, indent=1) + "\n")
    print(f"wrote {given.to}")


if __name__ == "__main__":
    main()
