"""What each JSON file of a checkpoint may hold, and the one way in which it is read.

`read_fields` returns the object of a file after its fields were checked against the file's shape below: types, ranges,
required names. Everything behind it may rely on them. Fields that a shape leaves out are not used, or are checked by
the module that uses them (`peft/config.py`). Statistics are checked as numbers
in `plausible.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Required, TypedDict

from pi05.errors import CheckpointError, UserError
from pi05.files import read_json, read_notes
from pi05.settings.fields import Count, Finite, Positive, Within, find_fault

Size = Annotated[int, Within(1, 2**31)]
Step = Annotated[int, Within(0, 2**53)]
Numbers = Annotated[list[Finite], Within(1, 2**16)]
Names = list[str]
Modes = dict[str, str]
Shape = list[Size]
Sides = Annotated[list[Size], Within(2, 2)]
"""Height and width."""


class Moments(TypedDict, total=False):
    """Statistics of one vector in openpi's `norm_stats.json`."""

    mean: Numbers | None
    std: Numbers | None
    q01: Numbers | None
    q99: Numbers | None


class NormStats(TypedDict, total=False):
    """`norm_stats.json` of openpi."""

    norm_stats: Required[dict[str, Moments]]


class Base(TypedDict, total=False):
    """What a checkpoint records of the weights below it."""

    path: str | None
    sha256: str | None
    source: str | None


class Slots(TypedDict, total=False):
    """Cameras by slot."""

    scene: Required[str | None]
    left_wrist: Required[str | None]
    right_wrist: Required[str | None]
    dropped: Required[Names]


class Statistics(TypedDict, total=False):
    """Statistics in a checkpoint of pi05."""

    mean: Numbers | None
    std: Numbers | None
    min: Numbers | None
    max: Numbers | None
    q01: Numbers | None
    q99: Numbers | None
    count: Count
    widened: list[Count]


class TokenizerFacts(TypedDict, total=False):
    """Which tokenizer a processor was trained with."""

    file: str
    sha256: Required[str]


class Column(TypedDict, total=False):
    """A column of the training data that is a part of the state or the action."""

    name: Required[Annotated[str, Within(1, 2**12)]]
    size: Required[Annotated[int, Within(1, 2**16)]]


Columns = Annotated[list[Column], Within(0, 2**16)]


class ProcessorFields(TypedDict, total=False):
    """The processor in `config.json` of pi05."""

    slots: Required[Slots]
    state_stats: Required[Statistics]
    action_stats: Required[Statistics]
    tokenizer: Required[TokenizerFacts]
    image_size: Required[Size]
    resize: Required[str]
    formula: str
    action_dim: Required[Size]
    horizon: Required[Size]
    max_prompt_tokens: Required[Size]
    fps: Required[Positive | None]
    action_names: Required[Names]
    state_names: Required[Names]
    state_columns: Columns
    action_columns: Columns
    prompt_format: Required[str]
    prompt_format_version: Required[int]
    normalization: Required[Modes]
    relative_mask: Required[list[bool] | None]
    camera_sizes: dict[str, Sides]
    camera_views: dict[str, dict[str, str | bool | list[str]]]
    instructions: Annotated[Names, Within(0, 1000)]


class OwnConfig(TypedDict, total=False):
    """`config.json` of a checkpoint of pi05."""

    format: Required[Literal["pi05"]]
    format_version: Required[int]
    pi05_version: str
    model: dict[str, Size]
    processor: ProcessorFields | None
    step: Step | None
    n_action_steps: Size | None
    rtc_max_delay: Step | None
    adapter: bool
    base: Base | None
    frozen_precision: str
    fingerprint: dict[str, str]
    edited: Names


class ForeignConfig(TypedDict, total=False):
    """`config.json` of whoever wrote the folder, before that is known."""

    format: str
    type: str
    action_horizon: Size
    step: Step | None
    base: Base | None
    adapter: bool
    use_peft: bool
    frozen_precision: str


class Source(TypedDict, total=False):
    """Where an exported folder came from."""

    path: str | None
    step: Step | None


class Sidecar(TypedDict, total=False):
    """`pi05.json`; its format and version are checked by `sidecar.py`."""

    pi05_version: str
    model: dict[str, Size]
    layout: str
    made_for: Names
    dtype: str
    fps: Positive | None
    prompt_format: str
    slots: Slots | None
    state_names: Names | None
    action_names: Names | None
    state_columns: Columns | None
    action_columns: Columns | None
    relative_mask: list[bool] | None
    n_action_steps: Size | None
    rtc_max_delay: Step | None
    base: Base | None
    frozen_precision: str
    source: Source | None
    cameras: dict[str, Annotated[list[Size], Within(2, 2)]] | None
    asset_id: str | None
    notes: Names
    files: dict[str, dict[str, Any]]


class AdapterNames(TypedDict, total=False):
    """`adapter_config.json`, where only the base's name is read or rewritten; the rest is `peft/config.py`'s."""

    base_model_name_or_path: str | None


class ShardIndex(TypedDict, total=False):
    """`model.safetensors.index.json`."""

    weight_map: Required[Annotated[dict[str, str], Within(1, 2**20)]]


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


class OwnSizes(TypedDict, total=False):
    """What a network needs of `config.json`."""

    model: Required[dict[str, Size]]


class OwnPolicy(TypedDict, total=False):
    """What a publication needs of it."""

    step: Required[Step]
    model: Required[dict[str, Size]]
    processor: Required[ProcessorFields]


def read_fields(path: Path, kind: Any) -> dict[str, Any]:
    """Read the JSON object of a file and check its fields. Raises CheckpointError naming file and field."""
    values = read_json(path)
    require_fields(values, kind, path)
    return values


def note_fields(path: Path, kind: Any) -> dict[str, Any]:
    """Read a JSON object that decides nothing; empty when the file is missing, damaged or holds what cannot be."""
    values = read_notes(path)
    return values if find_fault(kind, values) is None else {}


def require_fields(values: Any, kind: Any, path: Path) -> None:
    """Raise CheckpointError for the first field of a file that has a wrong type or an impossible value."""
    fault = find_fault(kind, values)
    if fault is not None:
        raise CheckpointError(
            f"{path} holds something that cannot be",
            wanted=f"{fault.field or 'the file'}: {fault.wanted}",
            found=fault.found,
            remedy="restore the file: copy or download it again",
        )


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Let every user's error in this block name `path`, the file that its values are from."""
    try:
        yield
    except UserError as error:
        if str(path) in error.render():
            raise
        found = str(path) if error.found is None else f"{error.found} in {path}"
        raise type(error)(error.problem, wanted=error.wanted, found=found, remedy=error.remedy) from error
