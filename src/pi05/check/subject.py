"""What is checked: a data set with the recipe that it is trained by and the base that training starts from.

The parts that are not given are not checked. Holds values only: `train/` and the commands put it together, so that
the checks see neither the settings of a run nor its network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi05.data.cameras import CameraSlots
from pi05.data.lerobot.reader import Dataset
from pi05.data.processor import Processor
from pi05.data.statistics import DimStats, Statistics


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the data set will be trained on."""

    processor: Processor
    """Slots, tokenizer, prompt format, resize, normalisation and statistics, as training will use them."""
    statistics: Statistics
    """Those of the training episodes, recomputed; the processor's own may be the base's."""
    train_episodes: Sequence[int]
    held_out: Sequence[int]
    n_action_steps: int
    """How many steps of a chunk are executed before the next one is asked for."""
    tokenizer_known: bool = True
    """Whether the processor's tokenizer is the one that training will use; else no token may be counted."""
    statistics_of_base: bool = False
    """Whether the processor normalises with statistics that the base brought (`--stats=checkpoint`)."""

    @property
    def slots(self) -> CameraSlots:
        """Where each camera goes."""
        return self.processor.slots


@dataclass(frozen=True, kw_only=True)
class Base:
    """What a base checkpoint tells of itself; None or empty where it tells nothing."""

    path: str | Path
    state_stats: DimStats | None = None
    action_stats: DimStats | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Preprocessing that it was trained with: resize, prompt_format, relative_mask, slots, tokenizer hash, fps."""
    edited: Sequence[str] = ()
    """Fields of its config.json that are not as it was written (`checkpoint/own/fingerprint.py`)."""
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    """Identity of the data that it was trained on, episodes included, where it is a run of pi05."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A data set, and what it is checked against."""

    dataset: Dataset
    episodes: Sequence[int]
    """Those that are used; the others may be broken."""
    recipe: Recipe | None = None
    base: Base | None = None
