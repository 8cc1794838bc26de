"""What the JSON of a run may hold, as far as training and exports rely on it (`settings/fields.py`).

`train/records/fields.py` has what pages show of a run; `file_fields.py` the files of a checkpoint.
"""

from __future__ import annotations

from typing import Annotated, Any, Required, TypedDict

from pi05.checkpoint.file_fields import Size, Step
from pi05.settings.fields import Count, Within


class Best(TypedDict, total=False):
    """The best step so far."""

    error: Required[float]
    step: Required[Step]


class Schedule(TypedDict, total=False):
    """The learning rate of a run's first start."""

    peak: Required[Annotated[float, Within(0, 1e6)]]
    warmup_steps: Required[Step]
    decay_steps: Required[Step]
    end: Required[Annotated[float, Within(0, 1e6)]]


class TrainingFields(TypedDict, total=False):
    """`training_state/state.json` of a checkpoint of pi05."""

    step: Step
    seed: int
    loader: dict[str, int]
    schedule: Schedule
    samples: Step
    samples_per_step: Size
    world_size: Size
    moments: Count
    ema: bool
    best: Best | None
    data: dict[str, Any]


class ResumeFields(TypedDict, total=False):
    """What a run that goes on needs of it."""

    step: Required[Step]
    loader: Required[dict[str, int]]
    schedule: Required[Schedule]
    samples_per_step: Required[Size]
    world_size: Required[Size]
    data: Required[dict[str, Any]]


class RunData(TypedDict, total=False):
    """Where the training data of a run are."""

    root: str | None


class RunNotes(TypedDict, total=False):
    """`config.json` of a run, as far as an export looks into it."""

    dataset: RunData | None
