"""The probe feels every input, and its comparison every difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pi05.errors import CheckpointError
from pi05.export.probe import PROBE, ask, compare, make_probe, read_probe
from pi05.policy import Policy
from pi05.train.config import TINY_BASE


def test_a_damaged_probe_is_an_error(exported_copy: Path) -> None:
    save_file({"states": torch.zeros(1, 3)}, exported_copy / PROBE)
    with pytest.raises(CheckpointError, match="stored probe cannot be read"):
        read_probe(exported_copy, ["go"])


def test_the_probe_is_the_same_every_time_and_feels_every_input() -> None:
    policy = Policy.load(TINY_BASE)
    probe, again = make_probe(policy.processor), make_probe(policy.processor)
    assert np.array_equal(probe.pictures, again.pictures)
    assert torch.equal(probe.noise, again.noise)
    answer = ask(policy, probe)
    assert not compare(ask(policy, again), answer, policy.processor).exceeds(0)
    for camera in range(probe.pictures.shape[1]):
        pictures = probe.pictures.copy()
        pictures[:, camera] = 255 - pictures[:, camera]
        moved = compare(ask(policy, replace(probe, pictures=pictures)), answer, policy.processor)
        assert moved.normalized > 1e-3, camera
    assert compare(ask(policy, replace(probe, states=probe.states * 0.9)), answer, policy.processor).tokens > 0


def test_nan_is_not_equal_to_anything() -> None:
    policy = Policy.load(TINY_BASE)
    answer = ask(policy, make_probe(policy.processor))
    broken = replace(answer, normalized=np.full_like(answer.normalized, np.nan))
    assert compare(broken, answer, policy.processor).exceeds(1e9)
