"""From a robot's observation and actions to the network's, and back: every transform of a policy, in its order.

One processor belongs to one checkpoint and is stored in it, so training, evaluation and serving cannot differ. Leaves
out batching (`loader.py`) and augmentation (`augment.py`). The order is openpi's: relative actions, normalisation with
the statistics of the relative actions, the unpadded state into the prompt, padding of the actions to the network's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from pi05.data.cameras import CameraSlots
from pi05.data.joined import columns_from_list, columns_to_list, describe_columns, with_state
from pi05.data.lerobot.vectors import Column
from pi05.data.prompt import PromptFormat, clean_task, format_prompt
from pi05.data.requirements import (
    require_choice,
    require_known_cameras,
    require_same,
    require_settings,
    require_shape,
    require_state,
    require_task,
)
from pi05.data.resize import OPENPI_RESIZE, RESIZES, Resize, fit_image, to_signed
from pi05.data.robot.camera_view import CameraView
from pi05.data.robot.camera_views import views_of
from pi05.data.robot.guard import require_image
from pi05.data.robot.instructions import instructions_of
from pi05.data.statistics import DimStats
from pi05.data.tokenizer import Tokenizer
from pi05.data.transforms import FORMULAS, Formula, NormalizationMode, Normalizer, absolute, relative
from pi05.errors import DataError
from pi05.types import STATE, Observation

PROMPT_FORMAT_VERSION = 1


def _quantiles() -> dict[str, NormalizationMode]:
    return {"STATE": "QUANTILES", "ACTION": "QUANTILES"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Processor:
    """All transforms between one robot and one network."""

    slots: CameraSlots
    """Camera of each slot, and the cameras dropped on purpose."""
    state_stats: DimStats
    action_stats: DimStats
    """Statistics of the actions as they are normalised, so of relative actions where these are used."""
    tokenizer: Tokenizer
    image_size: int
    """Side of the square input image, in pixels."""
    action_dim: int
    """Action dimensions of the network; the robot's are padded with zeros."""
    horizon: int
    """Actions in a chunk."""
    max_prompt_tokens: int
    """Longest prompt that is accepted, in tokens."""
    fps: float | None
    """Control rate of the demonstrations, in Hz; None where a foreign checkpoint does not tell it."""
    action_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    state_columns: tuple[Column, ...] = ()
    """The columns of the training data that are joined as the state; none where it is one column of a known name."""
    action_columns: tuple[Column, ...] = ()
    """The columns that the action's numbers are from, in their order; likewise."""
    prompt_format: PromptFormat = "state"
    normalization: dict[str, NormalizationMode] = field(default_factory=_quantiles)
    """Mode for STATE and for ACTION, with LeRobot's key names. VISUAL is IDENTITY, always."""
    relative_mask: tuple[bool, ...] | None = None
    """Action dimensions relative to the state at the chunk's start; None: all are absolute."""
    resize: Resize = OPENPI_RESIZE
    """How pictures become squares: openpi's client's way, or LeRobot's."""
    formula: Formula = "openpi"
    """Whose arithmetic normalises: openpi's or LeRobot's."""
    camera_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Slot → height and width of its pictures in the training data, in pixels; none where a checkpoint does not tell.
    """
    camera_views: dict[str, CameraView] = field(default_factory=dict)
    """Slot → what its pictures looked like in training; likewise."""
    instructions: tuple[str, ...] = ()
    """What the demonstrations were asked for, as prompts have it; likewise, and where there were very many."""

    def __post_init__(self) -> None:
        require_settings(
            self.normalization, self.prompt_format, self.robot_action_dim, self.action_dim, self.relative_mask
        )

    @property
    def state_dim(self) -> int:
        """Numbers in the robot's state."""
        return self.state_stats.dim

    @property
    def robot_action_dim(self) -> int:
        """Numbers in the robot's action."""
        return self.action_stats.dim

    @cached_property
    def state_normalizer(self) -> Normalizer:
        """Normaliser of the state."""
        return Normalizer(self.state_stats, self.normalization["STATE"], self.formula)

    @cached_property
    def action_normalizer(self) -> Normalizer:
        """Normaliser of the (possibly relative) actions."""
        return Normalizer(self.action_stats, self.normalization["ACTION"], self.formula)

    @cached_property
    def heard(self) -> frozenset[str]:
        """The instructions of the training."""
        return frozenset(self.instructions)

    @cached_property
    def _mask(self) -> np.ndarray:
        return np.array(self.relative_mask, bool)

    def encode(self, observation: Mapping[str, Any]) -> Observation:
        """Return the network's inputs for one raw observation: cameras, `observation.state` (or its columns), `task`.

        All three slots are present; an empty one is black and masked. Images are bytes, or float32 in [-1, 1] where
        LeRobot's resize changed the size of one. Raises DataError for a missing or unknown camera, a missing task or
        state, a wrong shape.
        """
        require_known_cameras(observation, self.slots)
        size = self.image_size
        black = np.zeros((size, size, 3), np.uint8)
        pictures = []
        for slot, key in self.slots.by_slot.items():
            image = black if key is None else require_image(observation, key, self.camera_sizes.get(slot), size)
            pictures.append(black if key is None else fit_image(image, size, self.resize))
        if any(picture.dtype != np.uint8 for picture in pictures):
            pictures = [to_signed(picture) for picture in pictures]
        mask = np.array([key is not None for key in self.slots.by_slot.values()])
        tokens = self.encode_prompts([require_task(observation)], self.state_of(observation)[None])[0]
        return Observation(images=np.stack(pictures), image_mask=mask, tokens=np.array(tokens, np.int64))

    def state_of(self, observation: Mapping[str, Any]) -> Float[np.ndarray, " S"]:
        """Return the raw state of an observation. Raises DataError when it is missing or has another shape.

        A policy without any use for the state (no prompt with it, absolute actions) gets zeros when there is none.
        """
        observation = with_state(observation, self.state_columns)
        if STATE not in observation and self.prompt_format == "none" and self.relative_mask is None:
            return np.zeros(self.state_dim, np.float32)
        return require_state(observation, self.state_dim, self.state_names, describe_columns(self.state_columns))

    def encode_prompts(self, tasks: Sequence[str], states: Float[np.ndarray, "N S"] | None) -> list[list[int]]:
        """Return the token ids of each task with its raw state. Raises DataError for a prompt that is too long."""
        if self.prompt_format == "none" or states is None:
            texts = [format_prompt(task, None, self.prompt_format) for task in tasks]
        else:
            normalized = self.state_normalizer.normalize(states)
            texts = [format_prompt(task, row, self.prompt_format) for task, row in zip(tasks, normalized, strict=True)]
        ids = self.tokenizer.encode_many(texts)
        if self.prompt_format == "none":
            line_break = self.tokenizer.encode("\n", add_bos=False)  # apart from the task, as openpi does it
            ids = [tokens + line_break for tokens in ids]
        for task, text, tokens in zip(tasks, texts, ids, strict=True):
            if len(tokens) > self.max_prompt_tokens:
                raise self._too_long(task, text, len(tokens))
        return ids

    def _too_long(self, task: str, text: str, count: int) -> DataError:
        shorter = self.prompt_format != "none" and len(self.tokenizer.encode(task)) < self.max_prompt_tokens
        hint = f" or leave the {self.state_dim} state numbers out with --prompt_format none," if shorter else ""
        return DataError(
            f"the prompt of the task {task!r} is too long and would lose its end",
            wanted=f"at most {self.max_prompt_tokens} tokens",
            found=f"{count} tokens: {text!r}",
            remedy=f"shorten the task,{hint} or raise --policy.tokenizer_max_length to {-(-count // 8) * 8}",
        )

    def encode_actions(
        self, chunk: Float[np.ndarray, "*batch A n"], state: Float[np.ndarray, "*batch S"]
    ) -> Float[np.ndarray, "*batch A X"]:
        """Return normalised float32 actions, padded with zeros to the network's dimensions."""
        chunk = np.asarray(chunk, np.float32)
        require_shape("action", chunk, (self.horizon, self.robot_action_dim), self.action_names)
        if self.relative_mask is not None:
            chunk = relative(chunk, np.asarray(state, np.float32), self._mask)
        padded = np.zeros((*chunk.shape[:-1], self.action_dim), np.float32)
        padded[..., : self.robot_action_dim] = self.action_normalizer.normalize(chunk)
        return padded

    def decode_actions(
        self, actions: Float[np.ndarray, "*batch A X"], state: Float[np.ndarray, "*batch S"]
    ) -> Float[np.ndarray, "*batch A n"]:
        """Undo `encode_actions`: return float32 actions in robot units."""
        values = self.action_normalizer.unnormalize(np.asarray(actions)[..., : self.robot_action_dim])
        if self.relative_mask is not None:
            state = np.asarray(state, np.float32)
            require_shape("state", state, (self.state_dim,), self.state_names)
            values = absolute(values, state, self._mask)
        return values.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint; the tokenizer is named by its hash and stored beside it."""
        return {
            "slots": self.slots.to_dict(),
            "state_stats": self.state_stats.to_dict(),
            "action_stats": self.action_stats.to_dict(),
            "tokenizer": {"file": self.tokenizer.file_name, "sha256": self.tokenizer.sha256},
            "image_size": self.image_size,
            "resize": self.resize,
            "formula": self.formula,
            "action_dim": self.action_dim,
            "horizon": self.horizon,
            "max_prompt_tokens": self.max_prompt_tokens,
            "fps": self.fps,
            "action_names": list(self.action_names),
            "state_names": list(self.state_names),
            "prompt_format": self.prompt_format,
            "prompt_format_version": PROMPT_FORMAT_VERSION,
            "normalization": dict(self.normalization),
            "relative_mask": None if self.relative_mask is None else list(self.relative_mask),
            **{name: columns_to_list(columns) for name, columns in self._columns.items() if columns},
            **({"camera_sizes": {s: list(size) for s, size in self.camera_sizes.items()}} if self.camera_sizes else {}),
            **({"camera_views": {s: v.to_dict() for s, v in self.camera_views.items()}} if self.camera_views else {}),
            **({"instructions": list(self.instructions)} if self.instructions else {}),
        }

    def having_seen(
        self, images: Callable[[int], Sequence[np.ndarray] | np.ndarray], episodes: Sequence[Sequence[int]]
    ) -> Processor:
        """Return it with what the cameras showed in the frames of these episodes, unless it knows that already.

        `images` gives the square pictures of a frame, one for each camera in use.
        """
        if self.camera_views:
            return self
        return replace(self, camera_views=views_of(images, self.slots.used, episodes))

    def having_heard(self, tasks: Iterable[str]) -> Processor:
        """Return it with the instructions of its training, unless it knows these already."""
        return self if self.instructions else replace(self, instructions=instructions_of(map(clean_task, tasks)))

    @property
    def _columns(self) -> dict[str, tuple[Column, ...]]:
        return {"state_columns": self.state_columns, "action_columns": self.action_columns}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tokenizer: Tokenizer) -> Processor:
        """Build from `to_dict`. Raises DataError when the tokenizer or the preprocessing is not the one of training.

        Checkpoints without `formula` are from when there was only openpi's; those without `camera_sizes`,
        `camera_views` or `instructions` do not tell.
        """
        require_same("tokenizer", values["tokenizer"]["sha256"], tokenizer.sha256)
        require_choice("resize", values["resize"], RESIZES)
        require_choice("normalisation formula", values.get("formula", "openpi"), FORMULAS)
        require_same("prompt format version", values["prompt_format_version"], PROMPT_FORMAT_VERSION)
        mask = values["relative_mask"]
        same = (
            "image_size",
            "action_dim",
            "horizon",
            "max_prompt_tokens",
            "fps",
            "prompt_format",
            "normalization",
            "resize",
        )
        state, action = (DimStats.from_dict(values[name]) for name in ("state_stats", "action_stats"))
        return cls(
            slots=CameraSlots.from_dict(values["slots"]),
            state_stats=state,
            action_stats=action,
            state_columns=columns_from_list(values.get("state_columns"), state.dim),
            action_columns=columns_from_list(values.get("action_columns"), action.dim),
            tokenizer=tokenizer,
            action_names=tuple(values["action_names"]),
            state_names=tuple(values["state_names"]),
            relative_mask=None if mask is None else tuple(mask),
            formula=values.get("formula", "openpi"),
            camera_sizes={slot: (size[0], size[1]) for slot, size in values.get("camera_sizes", {}).items()},
            camera_views={s: CameraView.from_dict(view) for s, view in (values.get("camera_views") or {}).items()},
            instructions=tuple(values.get("instructions", ())),
            **{name: values[name] for name in same},
        )

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes the network's inputs; equal fingerprints mean equal preprocessing."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def describe(self) -> str:
        """Return what is done to the data, for the console: cameras, state, actions, prompt."""
        kept = "absolute" if self.relative_mask is None else f"{sum(self.relative_mask)} relative to the state"
        rate = "" if self.fps is None else f" ({self.horizon / self.fps:.1f} s at {self.fps:g} Hz)"
        whose = "openpi's client" if self.resize == OPENPI_RESIZE else "LeRobot"
        names = {"openpi": "openpi's formula", "lerobot": "LeRobot's formula"}
        return "\n".join(
            [
                self.slots.describe(),
                f"images   {self.image_size} × {self.image_size} px, resized as {whose} does ({self.resize})",
                f"state    {self.state_dim} numbers{_joined(self.state_columns)}, {self.normalization['STATE']} by "
                f"{names[self.formula]}",
                f"actions  {self.horizon} steps{rate} of "
                f"{self.robot_action_dim} numbers{_joined(self.action_columns)} padded to {self.action_dim}, "
                f"{self.normalization['ACTION']}, {kept}",
                f"prompt   format {self.prompt_format}, at most {self.max_prompt_tokens} tokens",
            ]
        )


def _joined(columns: Sequence[Column]) -> str:
    return f" joined from {describe_columns(columns)}" if columns else ""
