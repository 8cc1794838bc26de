"""Statistics of the copy, as LeRobot keeps them: exact over the frames that are in it, for other programs to read.

Those of numbers are computed anew, always. Those of pictures come from a sample of decoded pictures and normalise
nothing in π₀.₅: an episode's are kept as they were, and the set's are made anew, from the same sample as at recording,
only where its frames are no longer the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pi05.check.fix.plan import Plan
from pi05.check.fix.tables import numeric_columns
from pi05.data.lerobot.feature_stats import PICTURES_PER_EPISODE, Stats, histogram, number_stats, picture_stats
from pi05.data.lerobot.files import read_json_lines
from pi05.data.lerobot.index_columns import INDEX_COLUMNS
from pi05.data.lerobot.layout import is_camera
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError
from pi05.files import read_notes

PLAIN = ("min", "max", "mean", "std", "count")
"""What v2.x knows; quantiles are added where the set had some."""
FeatureStats = dict[str, dict[str, Any]]
"""By feature and by name, as plain lists."""
SAME = 1e-4
"""Statistics that differ by less, as a share of their feature's largest standard deviation, are not said to."""


@dataclass(frozen=True, kw_only=True)
class TrueStatistics:
    """What the copy's `meta/` holds."""

    whole: FeatureStats
    per_episode: list[FeatureStats]
    wrong: list[str]
    """What the source said otherwise, for people."""


def compute_statistics(plan: Plan, folder: Path) -> TrueStatistics:
    """Compute the statistics of the numbers in the written files; those of pictures are the source's, per episode."""
    before = read_notes(plan.source.root / "meta" / "stats.json")
    by_episode = _of_episodes(plan)
    per_episode = _of_pictures(plan, by_episode)
    whole: FeatureStats = {}
    wrong = []
    plain = plan.source.version != "v3.0"
    for name, parts in numeric_columns(plan, folder):
        told = before.get(name)
        told = told if isinstance(told, dict) else {}
        whole[name] = _listed(number_stats(np.concatenate(parts)), told if plain else None)
        for stats, part in zip(per_episode, parts, strict=True):
            stats[name] = _listed(number_stats(part), {} if plain else None)
        if name not in INDEX_COLUMNS:
            wrong += _differences(plan, name, (told, whole[name]), by_episode, per_episode)
    kept = {name: value for name, value in before.items() if name not in whole and name in plan.source.layout.features}
    return TrueStatistics(whole={**kept, **whole}, per_episode=per_episode, wrong=wrong)


def _differences(
    plan: Plan,
    name: str,
    whole: tuple[dict[str, Any], dict[str, Any]],
    by_episode: dict[int, FeatureStats],
    per_episode: list[FeatureStats],
) -> list[str]:
    """Return what the source's statistics of a feature say otherwise: of the set, and of episodes that are whole."""
    difference = _difference(*whole) if plan.same_frames else None
    differences = [] if difference is None else [f"{name}: {difference}"]
    first, count = "", 0
    for kept, stats in zip(plan.kept, per_episode, strict=True):
        told = by_episode.get(kept.files.index, {}).get(name, {})
        text = None if sum(kept.cut) or not isinstance(told, dict) else _difference(told, stats[name])
        if text is not None:
            first, count = first or f"the first, {kept.files.index}: {text}", count + 1
    return differences + ([f"{name} of {count} episodes ({first})"] if count else [])


def _listed(stats: Stats, keys: dict[str, Any] | None) -> dict[str, Any]:
    """Return statistics as lists; with `keys` only the plain ones and those that are among them."""
    return {name: v.tolist() for name, v in stats.items() if keys is None or name in PLAIN or name in keys}


def _difference(told: dict[str, Any], true: dict[str, Any]) -> str | None:
    """Return the largest disagreement of two statistics of a feature, or None."""
    scale = max(np.max(np.asarray(true["std"], float)), 1e-9)
    worst, text = SAME * scale, None
    for key in sorted(set(told) & set(true) - {"count"}):
        try:
            off = np.abs(np.ravel(np.asarray(told[key], float)) - np.ravel(np.asarray(true[key], float)))
        except (TypeError, ValueError):
            return f"{key} cannot be read, or is of another size"
        if np.isnan(off).any() or off.max() > worst:
            at = int(np.argmax(np.nan_to_num(off, nan=np.inf)))
            worst = float(off[at])
            text = f"{key} of dimension {at} was {np.ravel(told[key])[at]:.5g}, and is {np.ravel(true[key])[at]:.5g}"
    return text


def _of_episodes(plan: Plan) -> dict[int, FeatureStats]:
    """Return the statistics that the source has of each episode."""
    if plan.source.version == "v3.0":
        return _in_episode_table(plan)
    path = plan.source.root / "meta" / "episodes_stats.jsonl"
    rows = read_json_lines(path, "episode statistics", ("episode_index", "stats")) if path.is_file() else []
    return {row["episode_index"]: row["stats"] for row in rows if isinstance(row["stats"], dict)}


def _of_pictures(plan: Plan, known: dict[int, FeatureStats]) -> list[FeatureStats]:
    """Return the statistics of pictures that the source has of each kept episode."""
    features = plan.source.layout.features
    cameras = [name for name, feature in features.items() if is_camera(feature)]
    found = [known.get(kept.files.index, {}) for kept in plan.kept]
    return [{camera: stats[camera] for camera in cameras if camera in stats} for stats in found]


def _in_episode_table(plan: Plan) -> dict[int, FeatureStats]:
    known: dict[int, FeatureStats] = {}
    for path in sorted((plan.source.root / "meta" / "episodes").rglob("*.parquet")):
        names = [name for name in pq.read_schema(path).names if name.startswith("stats/")]
        for row in pq.read_table(path, columns=["episode_index", *names]).to_pylist():
            stats = known.setdefault(int(row["episode_index"]), {})
            for name in names:
                feature, key = name.removeprefix("stats/").rsplit("/", 1)
                if row[name] is not None:
                    stats.setdefault(feature, {})[key] = row[name]
    return known


def sample_pictures(data: Dataset, progress: Callable[[int, int], None] | None = None) -> FeatureStats:
    """Return the statistics of each camera over a sample of every episode's pictures, decoded from the copy."""
    stats = {}
    for place, camera in enumerate(data.camera_keys):
        counts, pictures = np.zeros((3, 256), np.int64), 0
        for episode in data.episodes:
            chosen = np.unique(np.linspace(0, episode.length - 1, PICTURES_PER_EPISODE).round().astype(int))
            own, number = histogram([data.image(camera, episode.start + int(frame)) for frame in chosen])
            counts, pictures = counts + own, pictures + number
            if progress is not None:
                progress(place * data.num_episodes + episode.index + 1, len(data.camera_keys) * data.num_episodes)
        stats[camera] = {name: array.tolist() for name, array in picture_stats(counts, pictures).items()}
    return stats


def write_statistics(path: Path, stats: FeatureStats) -> None:
    """Write `meta/stats.json`. Raises DataError for what JSON cannot hold."""
    try:
        path.write_text(json.dumps(stats, indent=4, allow_nan=False))
    except ValueError as error:
        raise DataError(
            "the statistics cannot be written", found=str(error), remedy="look for columns that are not finite"
        ) from error
