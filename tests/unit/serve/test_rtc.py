"""Real-time chunking: weights as published, guidance that pulls, chunks that start from the state of the moment."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from fake_policies import make_policy
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pi05.data.processor import Processor
from pi05.errors import CheckpointError, ConfigError
from pi05.policy import Policy
from pi05.serve.rtc import (
    LEROBOT,
    PUBLISHED,
    Guidance,
    agreement,
    encode_previous,
    guidance_strength,
    guide,
    next_chunks,
)
from pi05.serve.underway import Underway

HORIZON = 10
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture
def policy(tokenizer: Path) -> Policy:
    return make_policy(tokenizer)


def observation(seed: int = 0, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    scene, wrist = fakes.CAMERAS
    return {
        scene: rng.integers(0, 256, (48, 48, 3), np.uint8),
        wrist: rng.integers(0, 256, (48, 48, 3), np.uint8),
        "observation.state": rng.uniform(-0.1, 0.1, 3).astype(np.float32),
        "task": fakes.TASKS[seed % 2],
        **changes,
    }


def left_over(count: int = 7, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.2, 0.2, (count, 3)).astype(np.float32)


def drawn(count: int = 1) -> Tensor:
    return torch.randn(count, HORIZON, 32, generator=torch.Generator().manual_seed(3))


def test_weights_are_those_of_the_paper() -> None:
    """Equation 5 of 2506.07339 with d = 2, H - s = 7, by hand."""
    falling = [(7 - i) / (7 - 2 + 1) for i in range(2, 7)]
    by_hand = [1, 1, *(c * (math.exp(c) - 1) / (math.e - 1) for c in falling), 0, 0, 0]
    assert agreement("exponential", 2, 7, HORIZON).tolist() == pytest.approx(by_hand)
    assert agreement("linear", 2, 7, HORIZON).tolist() == pytest.approx([1, 1, *falling, 0, 0, 0])
    assert agreement("ones", 2, 7, HORIZON).tolist() == [1] * 7 + [0] * 3
    assert agreement("zeros", 2, 7, HORIZON).tolist() == [1] * 2 + [0] * 8


@given(st.sampled_from(["exponential", "linear", "ones", "zeros"]), st.integers(0, 12), st.integers(0, 12))
def test_weights_never_rise_and_end_at_the_overlap(schedule: Any, delay: int, overlap: int) -> None:
    weights = agreement(schedule, delay, overlap, HORIZON)
    assert (weights.diff() <= 0).all()
    assert (weights[overlap:] == 0).all()
    assert (weights[: min(delay, overlap)] == 1).all()
    assert weights.shape == (HORIZON,)


def test_strength_is_clipped_towards_noise() -> None:
    times = torch.tensor([1.0, 0.5, 0.1])
    assert guidance_strength(times, 5.0).tolist() == pytest.approx([5.0, 2.0, 5.0])
    assert guidance_strength(times, 100.0).tolist() == pytest.approx([100.0, 2.0, 0.82 / 0.09])


def test_published_guidance_uses_the_derivative_of_the_network() -> None:
    """On a linear velocity x M the derivative is known: the correction is W·error·(1 - t M)ᵀ."""
    generator = torch.Generator().manual_seed(0)
    x_t, previous = torch.randn(2, 2, 4, 3, generator=generator)
    mixing = torch.randn(3, 3, generator=generator)
    weights = torch.rand(2, 4, 3, generator=generator)
    t = 0.4
    error = weights * (previous - (x_t - t * x_t @ mixing))
    expected = x_t @ mixing - guidance_strength(torch.tensor(t), 5.0) * error @ (torch.eye(3) - t * mixing).T
    steered = guide(previous, weights, PUBLISHED)(lambda x, _: x @ mixing, x_t, torch.full((2,), t))
    assert torch.allclose(steered, expected, atol=ROUNDING)
    plain = guide(previous, weights, LEROBOT)(lambda x, _: x @ mixing, x_t, torch.full((2,), t))
    assert not torch.allclose(plain, expected, atol=0.1)


@pytest.mark.parametrize("guidance", [PUBLISHED, LEROBOT], ids=["published", "lerobot"])
def test_a_guided_chunk_begins_like_the_previous_one(policy: Policy, guidance: Guidance) -> None:
    underway = Underway(actions=left_over(), delay=4)
    noise = drawn()
    free, guided = (
        next_chunks(policy, [observation()], [underway], mode=mode, guidance=guidance, noise=noise)[0]
        for mode in ("naive", "guided")
    )
    before = np.abs(free[:4] - underway.actions[:4]).max()
    assert np.abs(guided[:4] - underway.actions[:4]).max() < 0.2 * before
    assert np.abs(guided[8:] - free[8:]).max() < np.abs(guided[:4] - free[:4]).max()


def test_a_robot_that_stands_gets_the_chunk_that_it_always_got(policy: Policy) -> None:
    """Alone to the bit; beside one that moves up to rounding, since it is computed with gradients there."""
    noise, both = drawn(2), [observation(0), observation(1)]
    plain = policy.infer_batch(both, noise=noise)
    alone = next_chunks(policy, both, [None, None], mode="guided", noise=noise)
    assert all(np.array_equal(left, right) for left, right in zip(alone, plain, strict=True))
    mixed = next_chunks(policy, both, [None, Underway(actions=left_over(), delay=3)], mode="guided", noise=noise)
    assert np.allclose(mixed[0], plain[0], atol=ROUNDING)
    assert not np.allclose(mixed[1], plain[1], atol=1e-3)


def test_each_robot_has_its_own_delay(policy: Policy) -> None:
    noise, both = drawn(2), [observation(0), observation(1)]
    underway = [Underway(actions=left_over(7, 1), delay=1), Underway(actions=left_over(5, 2), delay=5)]
    together = next_chunks(policy, both, underway, mode="guided", noise=noise)
    for row in range(2):
        alone = next_chunks(policy, [both[row]], [underway[row]], mode="guided", noise=noise[row : row + 1])
        assert np.allclose(together[row], alone[0], atol=ROUNDING)


def relative_processor(policy: Policy) -> Processor:
    return replace(policy.processor, relative_mask=(True, True, False))


def test_what_is_left_is_relative_to_the_state_of_the_moment(policy: Policy) -> None:
    """A chunk made at one state, carried on at another: in robot units it stays where it was."""
    processor = relative_processor(policy)
    underway = Underway(actions=left_over(HORIZON), delay=2)
    for seed in (0, 1):
        seen = observation(seed)
        encoded = encode_previous(processor, seen["observation.state"], underway)
        assert np.allclose(processor.decode_actions(encoded, seen["observation.state"]), underway.actions, atol=1e-6)
    stale = processor.decode_actions(
        encode_previous(processor, observation(0)["observation.state"], underway), np.ones(3, np.float32)
    )
    assert np.abs(stale - underway.actions)[:, :2].max() > 0.5


@pytest.mark.parametrize("mode", ["guided", "trained"])
def test_relative_actions_are_continued_in_robot_units(policy: Policy, mode: Any) -> None:
    policy.processor, policy.max_delay = relative_processor(policy), 5
    underway = Underway(actions=left_over(), delay=4)
    (chunk,) = next_chunks(policy, [observation()], [underway], mode=mode, noise=drawn())
    near = 0.03 if mode == "guided" else 1e-6
    assert np.abs(chunk[:4] - underway.actions[:4]).max() < near


def test_a_trained_policy_is_given_the_committed_actions(policy: Policy) -> None:
    policy.max_delay = 5
    noise, first = drawn(), left_over()
    other = first.copy()
    other[3:] += 1.0  # past the delay: not committed, so not looked at
    chunks = [
        next_chunks(policy, [observation()], [Underway(actions=each, delay=3)], mode="trained", noise=noise)[0]
        for each in (first, other)
    ]
    assert np.array_equal(*chunks)
    assert np.allclose(chunks[0][:3], first[:3], atol=1e-6)
    moved = next_chunks(
        policy, [observation()], [Underway(actions=first + np.float32(0.1), delay=3)], mode="trained", noise=noise
    )[0]
    assert np.abs(moved[3:] - chunks[0][3:]).max() > 1e-4


@pytest.mark.parametrize(("max_delay", "delay", "found"), [(0, 2, "none"), (3, 3, "rtc_max_delay=3"), (0, 0, "none")])
def test_a_delay_that_was_not_trained_is_refused(policy: Policy, max_delay: int, delay: int, found: str) -> None:
    policy.max_delay = max_delay
    with pytest.raises(CheckpointError, match="was not trained") as told:
        next_chunks(policy, [observation()], [Underway(actions=left_over(), delay=delay)], mode="trained")
    assert found in str(told.value)
    assert "guided" in str(told.value)


@pytest.mark.parametrize("wrong", [{"max_weight": 0.0}, {"overlap": -1}])
def test_guidance_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Guidance(**wrong)


def test_padding_is_steered_only_where_it_is_asked_for(policy: Policy) -> None:
    """Dimensions that the robot does not have reach the actions through the network; by default nothing pulls them."""
    underway, noise = [Underway(actions=left_over(), delay=4)], drawn()
    chunks = [
        next_chunks(
            policy, [observation()], underway, mode="guided", guidance=replace(PUBLISHED, padding=p), noise=noise
        )
        for p in (False, True)
    ]
    assert not np.allclose(chunks[0][0], chunks[1][0], atol=1e-5)
