"""What the files of a run may hold, as `read.py` and the pages use them: types and ranges (`settings/fields.py`)."""

from __future__ import annotations

from typing import Annotated, Any, Required, TypedDict

from pi05.settings.fields import Count, Within

Share = Annotated[float, Within(0, 1)]


class RecordFields(TypedDict, total=False):
    """One line of `metrics.jsonl`; of its numbers a page shows those that are numbers (`run_record.is_number`)."""

    type: str
    text: str
    status: str
    dimensions: dict[str, dict[str, Any]] | None
    best_baseline: str
    baselines: dict[str, Any] | None
    effects: dict[str, Any] | None
    error_by_step: dict[str, list[Any]] | None
    name: str
    words: str
    effect: str
    remedy: str


class RunPolicy(TypedDict, total=False):
    """The group `policy` of a run's `config.json`, as far as a page shows it."""

    train_expert_only: bool
    freeze_vision_encoder: bool
    use_peft: bool


class RunPeft(TypedDict, total=False):
    """The group `peft`."""

    r: Count
    quantize: str


class RunConfig(TypedDict, total=False):
    """`config.json` of a run, as far as a page shows it."""

    steps: Count | None
    policy: RunPolicy
    peft: RunPeft | None


class Sample(TypedDict, total=False):
    """One entry of `step0/prompts.json`."""

    sample: Count
    frame: Count
    tokens: Count
    task: str
    prompt: str
    images: dict[str, str] | None


class Success(TypedDict, total=False):
    """A success rate."""

    successes: Required[Count]
    trials: Required[Count]
    rate: Required[Share | None]
    wilson_low: Required[Share]
    wilson_high: Required[Share]


class RolledOut(TypedDict, total=False):
    """The policy of an evaluation."""

    path: str | None
    checkpoint: str | None
    step: Count | None


class Results(TypedDict, total=False):
    """`results.json` of an evaluation."""

    success: Required[Success]
    simulator_exceptions: Count
    date: str
    config: dict[str, Any] | None
    policy: RolledOut | None
    environment: dict[str, Any] | None
    machine: dict[str, Any] | None


class OpenLoopError(TypedDict, total=False):
    """How far something's actions were from the recorded ones, in standard deviations."""

    error: Required[float]


class OpenLoopPolicy(OpenLoopError, total=False):
    """One policy of an open-loop evaluation."""

    name: str
    step: Count | None


class OpenLoop(TypedDict, total=False):
    """`open_loop.json` of an evaluation on recorded episodes, as far as the page of a run shows it."""

    policies: Required[list[OpenLoopPolicy]]
    baselines: Required[dict[str, OpenLoopError]]
    episodes: list[Count]
    asked: str
    data: dict[str, Any] | None
    date: str


class Session(TypedDict, total=False):
    """One entry of `history.json`."""

    started: str | None
    ended: str | None
    first_step: Count
    last_step: Count | None
    status: str
    device: str
    pi05: str
    machine: dict[str, Any] | None


class History(TypedDict, total=False):
    """`history.json`."""

    sessions: list[Session]


class WandbRun(TypedDict, total=False):
    """`wandb.json`."""

    run_id: Required[Annotated[str, Within(1, 256)]]
