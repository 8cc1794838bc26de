"""Guidance against LeRobot 0.6.1's own code: single steps around a formula, and whole samples of its π₀.₅."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pi05.checkpoint.load import load_model
from pi05.serve.rtc import LEROBOT, Guidance, agreement, guide

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "lerobot_rtc"
FACTS = json.loads((FOLDER / "cases.json").read_text())
HORIZON, LEFT = 10, FACTS["left"]
STEP_TOLERANCE = 1e-5
"""Absolute; float32. LeRobot counts flow time in float64."""
SAMPLE_TOLERANCE = 1e-4
"""Absolute, collected over ten denoising steps."""
NAMES: dict[str, Any] = {"LINEAR": "linear", "EXP": "exponential", "ONES": "ones", "ZEROS": "zeros"}


@pytest.fixture(scope="module")
def cases() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "cases.npz") as archive:
        return dict(archive)


def as_lerobot(schedule: str, horizon: int, most: float) -> Guidance:
    return Guidance(
        schedule=NAMES[schedule], overlap=horizon, max_weight=most, through_network=LEROBOT.through_network,
        padding=LEROBOT.padding,
    )  # fmt: skip


def filled(previous: np.ndarray, width: int) -> Tensor:
    """Return the previous chunk with zeros for what is not there, as LeRobot fills it."""
    whole = torch.zeros(len(previous), HORIZON, width)
    whole[:, :LEFT, : previous.shape[2]] = torch.from_numpy(previous)
    return whole


def weights_like(x: Tensor, guidance: Guidance, delay: int) -> Tensor:
    overlap = min(guidance.overlap or 0, LEFT)
    return agreement(guidance.schedule, delay, overlap, HORIZON)[None, :, None].expand_as(x).clone()


def test_single_steps(cases, compare) -> None:
    x_t, mixing = torch.from_numpy(cases["x_t"]), torch.from_numpy(cases["mixing"])
    previous = filled(cases["previous"], x_t.shape[2])
    ours = []
    for schedule, delay, horizon, time in FACTS["steps"]:
        guidance = as_lerobot(schedule, horizon, 10.0)
        steer = guide(previous, weights_like(x_t, guidance, delay), guidance)
        ours.append(steer(lambda x, t: torch.tanh(x @ mixing) / 2, x_t, torch.full((2,), time)))
    assert len(ours) == 48
    compare("steered velocities", torch.stack(ours), cases["steps"], STEP_TOLERANCE)


@pytest.mark.parametrize("index", range(len(FACTS["samples"])))
def test_whole_samples(lerobot, cases, compare, index: int) -> None:
    schedule, delay, horizon, most = FACTS["samples"][index]
    model, guidance = load_model(lerobot.weights, config=lerobot.config), as_lerobot(schedule, horizon, most)
    previous = filled(cases["sample_previous"], lerobot.config.action_dim)
    steer = guide(previous, weights_like(previous, guidance, delay), guidance)
    steered = model.sample_actions(lerobot.batch, lerobot.sample_noise, steer=steer)
    compare(f"actions, {schedule}", steered, cases[f"sample_{index}"], SAMPLE_TOLERANCE)
    free = model.sample_actions(lerobot.batch, lerobot.sample_noise)
    assert (free - steered).abs().max() > 100 * SAMPLE_TOLERANCE
