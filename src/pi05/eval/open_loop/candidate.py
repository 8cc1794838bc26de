"""The policies of an open-loop evaluation before their weights are read: do they fit the data set, what were they
trained on?

A policy of another robot, another rate or other cameras would give numbers that mean nothing, so it is refused. What a
policy's run has trained on and held out stands in its checkpoint's training state; folders of other programs, and
exported ones, do not tell it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pi05.checkpoint.locate import Location, locate
from pi05.checkpoint.policy_folder import read_transforms
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.checkpoint.store import read_noted_data
from pi05.data.lerobot.reader import ALLOWANCES, Dataset
from pi05.data.processor import Processor
from pi05.data.robot.control_rate import same_rate
from pi05.errors import ConfigError, EvaluationError
from pi05.eval.chosen_policy import require_predicted
from pi05.eval.config import EvalConfig
from pi05.model.config import usual_steps
from pi05.sim.libero.config import CONTROL_RATE

ACTION_NAMES = "action-names"
ALLOWED = (*ALLOWANCES, CONTROL_RATE, ACTION_NAMES)
"""What `--allow` may hold: checks of the data set, and of the policy against it."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What a run has noted of its data in its checkpoint."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    data: Mapping[str, Any]
    """What the data set was, as hashes (`data/lerobot/identity.py`)."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A policy whose transforms are read, and whose weights are not."""

    name: str
    """How charts call it: A, B, C; or "policy" where it is alone."""
    path: str
    location: Location
    processor: Processor
    n_action_steps: int
    notes: tuple[str, ...]
    record: TrainingRecord | None
    """None: its folder does not tell what it was trained on."""


def read_candidates(config: EvalConfig, paths: Sequence[str]) -> list[Candidate]:
    """Read the transforms of each policy. Raises CheckpointError where a folder is not complete."""
    return [_read(config, path, name_of(number, len(paths))) for number, path in enumerate(paths)]


def name_of(number: int, count: int) -> str:
    """Return how charts call a policy."""
    return "policy" if count == 1 else chr(ord("A") + number)


def _read(config: EvalConfig, path: str, name: str) -> Candidate:
    location = locate(path)
    source, _, _ = read_transforms(location, options=PolicyOptions(**config.told))
    processor = source.processor
    named = config.policy.n_action_steps or source.n_action_steps
    steps = named or usual_steps(processor.horizon, processor.fps)
    require_predicted(steps, processor.horizon)
    return Candidate(
        name=name,
        path=path,
        location=location,
        processor=processor,
        n_action_steps=steps,
        notes=tuple(source.notes),
        record=read_record(location),
    )


def read_record(location: Location) -> TrainingRecord | None:
    """Return what a checkpoint tells of its training data; None where it holds nothing of it."""
    noted = read_noted_data(location.folder) if location.kind == "pi05" else {}
    train, held_out = noted.get("train_episodes"), noted.get("held_out")
    if not isinstance(train, list) or not isinstance(held_out, list):
        return None
    if not all(type(number) is int for number in (*train, *held_out)):
        return None
    return TrainingRecord(train=tuple(train), held_out=tuple(held_out), data=noted)


def open_recordings(config: EvalConfig, candidates: Sequence[Candidate]) -> Dataset:
    """Open the data set with the columns that the policies were trained on.

    Raises DataError for a damaged set, and EvaluationError where the policies read other columns of it.
    """
    unknown = sorted(set(config.allow) - set(ALLOWED))
    if unknown:
        raise ConfigError(
            f"--allow cannot be {unknown[0]}",
            wanted="some of " + ", ".join(ALLOWED),
            found=", ".join(unknown),
            remedy="correct --allow",
        )
    columns = [_columns(candidate.processor) for candidate in candidates]
    for candidate, own in zip(candidates, columns, strict=True):
        if own != columns[0]:
            raise EvaluationError(
                f"{candidate.path} reads other columns of a data set than {candidates[0].path}",
                wanted=str(columns[0]),
                found=str(own),
                remedy="evaluate them one at a time",
            )
    state, action = columns[0]
    known = candidates[0].record
    own_only = config.episodes in (None, "held-out") and known is not None
    return Dataset(
        config.dataset.place or "",
        allow=[check for check in config.allow if check in ALLOWANCES],
        episodes=sorted({*known.train, *known.held_out}) if own_only and known is not None else None,
        state=state,
        action=action,
    )


def _columns(processor: Processor) -> tuple[list[str] | None, list[str] | None]:
    kinds = (processor.state_columns, processor.action_columns)
    return tuple([column.name for column in kind] or None for kind in kinds)  # type: ignore[return-value]


def require_fits(candidate: Candidate, dataset: Dataset, allow: Collection[str]) -> None:
    """Refuse a policy of another robot, of another rate, or with other cameras than the data set has."""
    processor, path = candidate.processor, candidate.path
    sizes = {
        "state": (processor.state_dim, dataset.state_dim),
        "action": (processor.robot_action_dim, dataset.action_dim),
    }
    for kind, (trained, found) in sizes.items():
        if trained != found:
            raise EvaluationError(
                f"{path} was trained with another robot than this data set's",
                wanted=f"{trained} numbers in the {kind}",
                found=f"{found}: {', '.join(dataset.state_names if kind == 'state' else dataset.action_names)}",
                remedy="evaluate it on data of the robot that it was trained with",
            )
    names = list(processor.action_names)
    if names and dataset.names_actions and names != list(dataset.action_names) and ACTION_NAMES not in allow:
        raise EvaluationError(
            f"{path} was trained with other action dimensions than this data set has, or in another order",
            wanted=", ".join(names),
            found=", ".join(dataset.action_names),
            remedy=f"evaluate it on data of its robot; where only the names differ, --allow={ACTION_NAMES}",
        )
    if processor.fps is not None and not same_rate(processor.fps, dataset.fps) and CONTROL_RATE not in allow:
        raise EvaluationError(
            f"{path} was trained at another control rate than this data set has",
            wanted=f"{processor.fps:g} Hz, within 5 %",
            found=f"{dataset.fps:g} Hz in {dataset.root}",
            remedy=f"evaluate it on data at its rate; where the label alone is wrong, --allow={CONTROL_RATE}",
        )
    _require_cameras(candidate, dataset)


def _require_cameras(candidate: Candidate, dataset: Dataset) -> None:
    slots = candidate.processor.slots
    missing = [key for key in slots.keys if key not in dataset.camera_keys]
    strange = [key for key in dataset.camera_keys if key not in slots.keys and key not in slots.dropped]
    if missing or strange:
        pairs = dict(zip(strange, [*missing, *["drop"] * len(strange)], strict=False))
        raise EvaluationError(
            f"{candidate.path} sees other cameras than this data set has",
            wanted=f"{', '.join(slots.keys)}, which the policy was trained with",
            found=f"{', '.join(dataset.camera_keys) or 'no camera'} in {dataset.root}",
            remedy=f"say which is which, for example --rename_map '{json.dumps(pairs, ensure_ascii=False)}'"
            if strange
            else "evaluate it on data with its cameras",
        )
