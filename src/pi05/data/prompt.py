"""The prompt: the task's text, cleaned, and the robot's state in bins. Leaves out token ids (`tokenizer.py`).

Behaviour comes from openpi (`models/tokenizer.py`) and LeRobot's π₀.₅ processors; what is checked against their
recorded output is in tests/parity.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from pi05.errors import DataError
from pi05.types import STATE

STATE_BINS = 256
LEGACY_STATE_DIM = 32
"""Numbers in the prompt of LeRobot ≤ 0.4.4, which padded the state with zeros before writing it."""
PromptFormat = Literal["state", "state32", "none"]
PROMPT_FORMATS: tuple[PromptFormat, ...] = ("state", "state32", "none")

_BIN_EDGES = np.linspace(-1, 1, STATE_BINS + 1)[:-1]


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
            wanted=STATE,
            remedy="provide the state, or train with --prompt_format none",
        )
    if prompt_format == "state32":
        state = np.pad(state, (0, max(0, LEGACY_STATE_DIM - len(state))))
    bins = " ".join(map(str, discretize_state(state).tolist()))
    return f"Task: {cleaned}, State: {bins};\nAction: "
