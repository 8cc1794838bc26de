"""Numeric and textual transforms between a robot and the network, each with its inverse where it has one.

Holds normalisation, relative actions, the prompt with the discretised state, and the resize. Leaves out which of them a
checkpoint uses and in which order: that is `processor.py`.

Behaviour comes from openpi (`transforms.py`, `models/tokenizer.py`, `openpi_client/image_tools.py`) and LeRobot's π₀.₅
processors; what is checked against their recorded output is in tests/parity/test_transforms_golden.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image

from pi05.data.stats import DimStats
from pi05.errors import DataError

NORMALIZATION_EPS = 1e-6
"""Added to the range (or the standard deviation) before dividing: openpi's value; LeRobot divides by the range."""
STATE_BINS = 256
LEGACY_STATE_DIM = 32
"""Numbers in the prompt of LeRobot ≤ 0.4.4, which padded the state with zeros before writing it."""

NormalizationMode = Literal["QUANTILES", "MEAN_STD", "IDENTITY"]
PromptFormat = Literal["state", "state32", "none"]
NORMALIZATION_MODES: tuple[NormalizationMode, ...] = ("QUANTILES", "MEAN_STD", "IDENTITY")
PROMPT_FORMATS: tuple[PromptFormat, ...] = ("state", "state32", "none")

_BIN_EDGES = np.linspace(-1, 1, STATE_BINS + 1)[:-1]


class Normalizer:
    """Map robot units to about [-1, 1] and back, per dimension. Computes in float64, as openpi's loader does.

    QUANTILES: q01 → -1, q99 → 1, nothing clipped. MEAN_STD: mean → 0, one standard deviation → 1. IDENTITY: unchanged.
    """

    def __init__(self, stats: DimStats, mode: NormalizationMode) -> None:
        self.stats = stats
        self.mode = mode
        self._quantile_range = stats.q99 - stats.q01 + NORMALIZATION_EPS
        self._deviation = stats.std + NORMALIZATION_EPS

    def normalize(self, values: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """Return normalised float64 values."""
        values = np.asarray(values, np.float64)
        if self.mode == "QUANTILES":
            return (values - self.stats.q01) / self._quantile_range * 2.0 - 1.0
        if self.mode == "MEAN_STD":
            return (values - self.stats.mean) / self._deviation
        return values

    def unnormalize(self, values: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """Return float64 values in robot units."""
        values = np.asarray(values, np.float64)
        if self.mode == "QUANTILES":
            return (values + 1.0) / 2.0 * self._quantile_range + self.stats.q01
        if self.mode == "MEAN_STD":
            return values * self._deviation + self.stats.mean
        return values


def relative_mask(action_names: Sequence[str], exclude: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Mark the action dimensions that become relative: all but those whose name contains a word of `exclude`.

    Case does not count. Raises DataError for a word that no name contains, because it excludes nothing.
    """
    lowered = [name.lower() for name in action_names]
    for word in exclude:
        if not any(word.lower() in name for name in lowered):
            raise DataError(
                f"no action dimension has {word!r} in its name, so nothing would stay absolute for it",
                wanted=f"a part of one of {', '.join(action_names)}",
                found=repr(word),
                remedy="correct --policy.relative_exclude_joints ('[]' makes every dimension relative)",
            )
    return np.array([not any(word.lower() in name for word in exclude) for name in lowered], bool)


def relative(
    actions: Float[np.ndarray, "*batch A n"], state: Float[np.ndarray, "*batch S"], mask: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, "*batch A n"]:
    """Subtract the state at the chunk's start from the masked dimensions of every step. Dimension i pairs with i."""
    return actions - _offset(state, mask)


def absolute(
    actions: Float[np.ndarray, "*batch A n"], state: Float[np.ndarray, "*batch S"], mask: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, "*batch A n"]:
    """Undo `relative`."""
    return actions + _offset(state, mask)


def _offset(state: np.ndarray, mask: np.ndarray) -> np.ndarray:
    offset = np.zeros((*state.shape[:-1], 1, len(mask)), state.dtype)
    offset[..., 0, mask] = state[..., : len(mask)][..., mask[: state.shape[-1]]]
    return offset


def discretize_state(state: Float[np.ndarray, "*batch S"]) -> Int64[np.ndarray, "*batch S"]:
    """Return the bin of each normalised value: 0 to 255 over [-1, 1), 255 above, -1 below. Nothing is clipped."""
    return np.digitize(state, _BIN_EDGES).astype(np.int64) - 1


def clean_task(task: str) -> str:
    """Strip the text and turn underscores and line breaks into spaces. Case stays."""
    return task.strip().replace("_", " ").replace("\n", " ")


def format_prompt(task: str, state: Float[np.ndarray, " S"] | None, prompt_format: PromptFormat) -> str:
    """Write the prompt for a task and a normalised, unpadded state.

    `state`: the state's bins follow the task. `state32`: the same, the state padded with zeros to 32 numbers. `none`:
    the task alone (openpi's LIBERO recipe); the line break that ends it is tokenised separately, see `Processor`.
    """
    cleaned = clean_task(task)
    if prompt_format == "none":
        return cleaned
    if state is None:
        raise DataError(
            f"the prompt format {prompt_format!r} writes the robot's state, and there is none",
            wanted="observation.state",
            remedy="provide the state, or train with --prompt_format none",
        )
    if prompt_format == "state32":
        state = np.pad(state, (0, max(0, LEGACY_STATE_DIM - len(state))))
    bins = " ".join(map(str, discretize_state(state).tolist()))
    return f"Task: {cleaned}, State: {bins};\nAction: "


def resize_with_pad(image: UInt8[np.ndarray, "height width 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Fit the image into a black square of `size` pixels, keeping its aspect; antialiased bilinear (PIL).

    An image that has the size already is returned as it is. Same pixels as openpi's client.
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    ratio = max(width / size, height / size)
    new_height, new_width = max(1, int(height / ratio)), max(1, int(width / ratio))
    resized = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
    padded = np.zeros((size, size, 3), np.uint8)
    top, left = int((size - new_height) / 2), int((size - new_width) / 2)
    padded[top : top + new_height, left : left + new_width] = np.asarray(resized)
    return padded
