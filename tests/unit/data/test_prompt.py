"""Prompts of all formats, and the state's bins."""

from __future__ import annotations

import numpy as np
import pytest

from pi05.data.prompt import discretize_state, format_prompt
from pi05.errors import DataError


def test_bins_of_all_inner_edges() -> None:
    edges = np.linspace(-1, 1, 257)[:-1]
    assert discretize_state(edges).tolist() == list(range(256))
    assert discretize_state(np.nextafter(edges, -2)).tolist() == list(range(-1, 255))


def test_prompt_formats() -> None:
    state = np.array([-1.5, 0.0, 3.0])
    assert format_prompt(" Put_it\nthere ", state, "state") == "Task: Put it there, State: -1 128 255;\nAction: "
    padded = format_prompt("go", state, "state32")
    assert padded == "Task: go, State: -1 128 255 " + " ".join(["128"] * 29) + ";\nAction: "
    assert format_prompt("Put_it there\n", state, "none") == "Put it there"


def test_a_state_format_needs_a_state() -> None:
    with pytest.raises(DataError, match="--prompt_format none"):
        format_prompt("go", None, "state")
