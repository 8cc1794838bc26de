"""The pictures of the page of `pi05 check`: sheets of each camera, an episode as a film, what the model sees.

Few episodes of many are shown, evenly chosen, and those first that a finding names. What cannot be decoded is told in
its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pi05.check.pictures.looks import moments
from pi05.check.subject import Recipe, Subject
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError
from pi05.finding import Finding
from pi05.pages.pictures import row

MOST_EPISODES = 24
MOST_NAMED = 8
"""Episodes that findings name, of those that are shown."""
SHEET_PX, FILM_PX, SEEN_PX = 72, 120, 160
MOST_FRAMES = 40
"""Pictures of one camera in a film."""


@dataclass(frozen=True)
class Shown:
    """A picture with what is said of it; no address where it could not be decoded."""

    title: str
    address: str | None
    remark: str = ""


def choose_episodes(subject: Subject, findings: Iterable[Finding], most: int = MOST_EPISODES) -> list[int]:
    """Return episodes to show, in order: some of those that findings name, and others evenly spaced."""
    used = list(subject.episodes)
    named: dict[int, None] = {}
    for finding in findings:
        if finding.to_mend:
            told = finding.numbers.get("episodes") or ()
            named |= dict.fromkeys(number for number in told if number in used)
    chosen = list(named)[: min(MOST_NAMED, most)]
    rest = [number for number in used if number not in chosen]
    count = min(most - len(chosen), len(rest))
    if count <= 0:
        return sorted(chosen)
    places = np.unique(np.linspace(0, len(rest) - 1, count).round().astype(int))
    return sorted([*chosen, *(rest[int(place)] for place in places)])


def contact_sheets(subject: Subject, episodes: Sequence[int]) -> list[tuple[str, list[Shown]]]:
    """Return camera → one row of pictures for each episode, from its first frame to its last."""
    dataset = subject.dataset
    return [
        (camera, [_row(dataset, camera, number, moments(dataset, number), SHEET_PX) for number in episodes])
        for camera in dataset.camera_keys
    ]


def film(dataset: Dataset, episode: int) -> tuple[list[int], dict[str, list[str]], list[str]]:
    """Return frames of an episode, each camera's pictures of them as addresses, and what could not be decoded."""
    frames = moments(dataset, episode, MOST_FRAMES)
    films: dict[str, list[str]] = {}
    missing: list[str] = []
    for camera in dataset.camera_keys:
        try:
            films[camera] = [row([dataset.image(camera, frame)], FILM_PX, 60) for frame in frames]
        except DataError as fault:
            missing.append(f"{camera}: {fault.problem}")
    return frames, films, missing


def as_seen(subject: Subject, recipe: Recipe, episodes: Sequence[int]) -> list[dict[str, Any]]:
    """Return, for each slot, its camera and the pictures of some frames as the model gets them."""
    dataset, processor = subject.dataset, recipe.processor
    slots: list[dict[str, Any]] = [
        {"slot": slot, "camera": camera, "pictures": []} for slot, camera in recipe.slots.by_slot.items()
    ]
    for number in episodes:
        frame = dataset.episodes[number].start + dataset.episodes[number].length // 2
        try:
            seen = processor.encode(dataset.frame(frame))
        except DataError as fault:
            slots[0]["pictures"].append(Shown(f"episode {number}", None, fault.problem))
            continue
        for slot, picture, valid in zip(slots, seen.images, seen.image_mask, strict=True):
            if valid:
                slot["pictures"].append(Shown(f"episode {number}", row([_bytes(picture)], SEEN_PX, 80)))
    return slots


def _row(dataset: Dataset, camera: str, episode: int, frames: Sequence[int], height: int) -> Shown:
    title = f"episode {episode}"
    task = ", ".join(dataset.episodes[episode].tasks)
    try:
        return Shown(title, row([dataset.image(camera, frame) for frame in frames], height), task)
    except DataError as fault:
        return Shown(title, None, fault.problem)


def _bytes(picture: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    if picture.dtype == np.uint8:
        return picture
    return ((picture + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
