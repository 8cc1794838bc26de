"""What a policy reads: how far its actions move, and how much worse they get, when an input is taken away or exchanged.

Taken away: a black picture for one camera after the other, a state that tells nothing. Exchanged: the picture or the
state of another moment, the instruction of another task. Each is a raw observation that goes the way of all others; the
noise stays the same. What stands in, and from when on an input counts as read: `data/measures/ablations.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from pi05.data.lerobot.reader import Dataset
from pi05.data.measures.ablations import NO_EFFECT, as_from, hidden_state, moved, other_tasks
from pi05.data.measures.chunk_error import measure_chunks
from pi05.data.processor import Processor
from pi05.data.prompt import clean_task
from pi05.eval.open_loop.looks import Looks, observe
from pi05.types import IMAGE_PREFIX, STATE, TASK

Predict = Callable[[Callable[[int], dict[str, Any]], Sequence[int]], Float32[np.ndarray, "N A n"]]
"""Chunks for frames, each observed by the given function."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one change of the inputs did."""

    input: str
    """The camera, "state" or "instruction"."""
    change: str
    """What was given instead, in words."""
    moved: float
    """How far the actions moved, in standard deviations."""
    score: float
    """The error of the chunks so predicted, in standard deviations."""

    @property
    def read(self) -> bool:
        """Whether the actions moved enough for the input to count as read."""
        return self.moved >= NO_EFFECT


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What each change did, on some of the frames."""

    frames: int
    whole: float
    """The error on these frames with all inputs as they were, in standard deviations."""
    effects: tuple[Effect, ...]
    left_out: tuple[str, ...] = ()
    """What could not be tried, with the reason."""

    @property
    def unread(self) -> list[str]:
        """Inputs that no change of theirs has an effect of."""
        names = dict.fromkeys(effect.input for effect in self.effects)
        return [name for name in names if not any(e.read for e in self.effects if e.input == name)]


@dataclass(frozen=True)
class _Change:
    input: str
    words: str
    apply: Callable[[dict[str, Any], int], dict[str, Any]]
    """Takes an observation and the place of its frame among those that are tried."""


def measure_sensitivity(
    predict: Predict,
    dataset: Dataset,
    processor: Processor,
    looks: Looks,
    scale: Float[np.ndarray, " n"],
    *,
    most: int,
) -> Sensitivity | None:
    """Predict some of the looks again with each change; None where `most` is 0."""
    if most == 0:
        return None
    places = np.unique(np.linspace(0, len(looks) - 1, min(most, len(looks))).round().astype(int))
    frames = [looks.frames[place] for place in places]
    kept = {frame: observe(dataset, processor.slots.keys, frame) for frame in frames}
    number = {frame: i for i, frame in enumerate(frames)}
    changes = _Changes(dataset, processor, frames, kept)
    states = dataset.states()[np.asarray(frames)]
    horizon = looks.actions.shape[1]
    actions, valid = looks.actions[places], looks.valid[places]
    still = predict(lambda frame: kept[frame], frames)[:, :horizon]
    effects = []
    for change in changes.all():
        changed = {frame: change.apply(kept[frame], number[frame]) for frame in frames}
        told = np.stack([changed[frame][STATE] for frame in frames])
        chunks = predict(lambda frame, changed=changed: changed[frame], frames)[:, :horizon]  # type: ignore[misc]
        chunks = as_from(chunks, told, states, processor.relative_mask)
        score = measure_chunks(chunks, actions, valid, scale).score
        effects.append(Effect(input=change.input, change=change.words, moved=moved(chunks, still, scale), score=score))
    return Sensitivity(
        frames=len(frames),
        whole=measure_chunks(still, actions, valid, scale).score,
        effects=tuple(effects),
        left_out=tuple(changes.left_out),
    )


class _Changes:
    """All changes of the inputs that the policy and the data allow."""

    def __init__(
        self, dataset: Dataset, processor: Processor, frames: Sequence[int], kept: dict[int, dict[str, Any]]
    ) -> None:
        self._dataset, self._processor, self._frames, self._kept = dataset, processor, frames, kept
        self.left_out: list[str] = []

    def all(self) -> Iterator[_Change]:
        """Yield them: cameras in the order of their slots, state, instruction."""
        for camera in self._processor.slots.keys:
            yield from self._camera(camera)
        yield from self._state()
        yield from self._instruction()

    def _camera(self, camera: str) -> Iterator[_Change]:
        name = camera.removeprefix(IMAGE_PREFIX)
        yield _Change(name, "black", lambda seen, _: {**seen, camera: np.zeros_like(seen[camera])})
        if len(self._frames) > 1:
            yield _Change(
                name, "picture of another moment", lambda seen, place: {**seen, camera: self._other(place)[camera]}
            )

    def _state(self) -> Iterator[_Change]:
        if self._processor.prompt_format == "none":
            self.left_out.append("the state: this policy's prompt does not hold it")
            return
        hidden = hidden_state(self._processor)
        yield _Change("state", "middle of its range", lambda seen, _: {**seen, STATE: hidden})
        if len(self._frames) > 1:
            yield _Change(
                "state", "that of another moment", lambda seen, place: {**seen, STATE: self._other(place)[STATE]}
            )

    def _instruction(self) -> Iterator[_Change]:
        others = other_tasks(self._dataset, self._processor, self._frames)
        if others is None:
            self.left_out.append("the instruction: no other one fits into the prompt")
            return
        several = len({clean_task(task) for task in self._dataset.tasks}) > 1
        words = "that of another task" if several else f"an unrelated one: “{next(iter(others.values()))}”"
        yield _Change("instruction", words, lambda seen, _: {**seen, TASK: others[seen[TASK]]})

    def _other(self, place: int) -> dict[str, Any]:
        """Return the observation half of the tried frames away: another episode's, or another part of the same."""
        count = len(self._frames)
        return self._kept[self._frames[(place + count // 2) % count]]
