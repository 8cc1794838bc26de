"""Numeric transforms between a robot and the network, each with its inverse where it has one.

Holds normalisation and relative actions. Leaves out pictures (`resize.py`), the prompt (`prompt.py`), and which
transforms a checkpoint uses in which order (`processor.py`).

Behaviour comes from openpi (`transforms.py`) and LeRobot's π₀.₅ processors
(`normalize_processor.py`); what is checked against their recorded output is in tests/parity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from pi05.data.statistics import OPENPI_EPS, DimStats
from pi05.errors import DataError

LEROBOT_EPS = 1e-8
"""What LeRobot adds to the standard deviation before it divides, and puts in the place of a range of zero."""

NormalizationMode = Literal["QUANTILES", "MEAN_STD", "IDENTITY"]
NORMALIZATION_MODES: tuple[NormalizationMode, ...] = ("QUANTILES", "MEAN_STD", "IDENTITY")
Formula = Literal["openpi", "lerobot"]
FORMULAS: tuple[Formula, ...] = ("openpi", "lerobot")


class Normalizer:
    """Map robot units to about [-1, 1] and back, per dimension; nothing is clipped.

    QUANTILES: q01 → -1, q99 → 1. MEAN_STD: mean → 0, one standard deviation → 1. IDENTITY: unchanged.

    The two formulas differ by less than a millionth of the range, which decides a state's bin at an edge. `openpi`
    computes in float64 and adds 1e-6 to the divisor; `lerobot` computes in float32 and divides by the range itself
    (a range of zero: by 1e-8), or by the standard deviation plus 1e-8, which its inverse leaves out.
    """

    def __init__(self, stats: DimStats, mode: NormalizationMode, formula: Formula = "openpi") -> None:
        self.stats, self.mode, self.formula = stats, mode, formula
        self._dtype: type[np.floating[Any]] = np.float64 if formula == "openpi" else np.float32
        if mode == "QUANTILES":
            self._low: np.ndarray = stats.value("q01").astype(self._dtype)
            width: np.ndarray = stats.value("q99").astype(self._dtype) - self._low
            whole = width + OPENPI_EPS if formula == "openpi" else np.where(width == 0, LEROBOT_EPS, width)
            self._width: np.ndarray = whole.astype(self._dtype)
        elif mode == "MEAN_STD":
            self._low = stats.value("mean").astype(self._dtype)
            deviation: np.ndarray = stats.value("std").astype(self._dtype)
            eps = OPENPI_EPS if formula == "openpi" else LEROBOT_EPS
            self._width = (deviation + np.asarray(eps, self._dtype)).astype(self._dtype)
            self._inverse_width = self._width if formula == "openpi" else deviation

    def normalize(self, values: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """Return normalised values, float64 or (LeRobot's formula) float32."""
        values = np.asarray(values).astype(self._dtype, copy=False)
        if self.mode == "IDENTITY":
            return values
        if self.mode == "MEAN_STD":
            return (values - self._low) / self._width
        if self.formula == "openpi":
            return (values - self._low) / self._width * 2.0 - 1.0
        return np.float32(2) * (values - self._low) / self._width - np.float32(1)

    def unnormalize(self, values: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """Return values in robot units, float64 or (LeRobot's formula) float32."""
        values = np.asarray(values).astype(self._dtype, copy=False)
        if self.mode == "IDENTITY":
            return values
        if self.mode == "MEAN_STD":
            return values * self._inverse_width + self._low
        if self.formula == "openpi":
            return (values + 1.0) / 2.0 * self._width + self._low
        return (values + np.float32(1)) * self._width / np.float32(2) + self._low


def relative_mask(action_names: Sequence[str], exclude: Sequence[str], *, named: bool = True) -> Bool[np.ndarray, " n"]:
    """Mark the action dimensions that become relative: all but those whose name contains a word of `exclude`.

    Case does not count; `named` says whether the names are the data set's own. Raises DataError for a word that no
    name contains, because it excludes nothing, and where every name is excluded.
    """
    lowered = [name.lower() for name in action_names]
    for word in exclude:
        if not word.strip() or not any(word.lower() in name for name in lowered):
            shown = ", ".join(action_names)
            unnamed = "" if named else " (numbers: meta/info.json does not name the dimensions of the action)"
            raise DataError(
                f"no action dimension has {word!r} in its name, so nothing would stay absolute for it",
                wanted=f"a part of one of {shown}{unnamed}",
                found=repr(word),
                remedy="correct --policy.relative_exclude_joints ('[]' makes every dimension relative)"
                + ("" if named else ", or name the dimensions in meta/info.json: features, action, names"),
            )
    mask = np.array([not any(word.lower() in name for word in exclude) for name in lowered], bool)
    if not mask.any():
        raise DataError(
            "relative actions are asked for, and every action dimension is excluded from them",
            wanted="at least one dimension that is relative to the state",
            found=f"{', '.join(exclude)} in each of {', '.join(action_names)}",
            remedy="correct --policy.relative_exclude_joints, or train with --policy.use_relative_actions=false",
        )
    return mask


def require_pairs(action_names: Sequence[str], state_names: Sequence[str], mask: Bool[np.ndarray, " n"]) -> None:
    """Raise DataError where a relative action has the name of a state at another index: i is paired with i."""
    places = {name: i for i, name in enumerate(state_names)}
    crossed = [
        f"action {i} is {name}, state {i} is {state_names[i] if i < len(state_names) else 'not there'}"
        for i, name in enumerate(action_names)
        if mask[i] and places.get(name, i) != i
    ]
    if crossed:
        raise DataError(
            "relative actions would be taken from the states of other joints",
            wanted="state and action in the same order: dimension i is relative to dimension i",
            found="; ".join(crossed[:4]) + ("; …" if len(crossed) > 4 else ""),
            remedy="choose the columns in the action's order with --dataset.state='[…]', write the data set anew with "
            "one order, or train with --policy.use_relative_actions=false",
        )


def relative(
    actions: Float[np.ndarray, "*batch A n"], state: Float[np.ndarray, "*batch S"], mask: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, "*batch A n"]:
    """Subtract the state at the chunk's start from the masked dimensions of every step (openpi's delta actions).

    Dimension i of the action pairs with dimension i of the state.
    """
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
