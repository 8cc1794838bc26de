"""Transforms: round trips, the bins' edges, prompts of all formats, the resize's geometry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pi05.data.resize import resize_with_pad
from pi05.data.stats import DimStats
from pi05.data.transforms import (
    NORMALIZATION_MODES,
    Normalizer,
    absolute,
    discretize_state,
    format_prompt,
    relative,
    relative_mask,
)
from pi05.errors import DataError

numbers = st.floats(-1e3, 1e3)


def stats_of(low: np.ndarray, width: np.ndarray) -> DimStats:
    high = low + width
    return DimStats(mean=(low + high) / 2, std=width / 4, min=low, max=high, q01=low, q99=high, count=9)


@given(
    values=npst.arrays(np.float64, (5, 3), elements=numbers),
    low=npst.arrays(np.float64, 3, elements=numbers),
    width=npst.arrays(np.float64, 3, elements=st.floats(1e-4, 1e3)),
    mode=st.sampled_from(NORMALIZATION_MODES),
)
def test_unnormalise_undoes_normalise(values: np.ndarray, low: np.ndarray, width: np.ndarray, mode: str) -> None:
    normalizer = Normalizer(stats_of(low, width), mode)
    np.testing.assert_allclose(normalizer.unnormalize(normalizer.normalize(values)), values, rtol=1e-9, atol=1e-9)


def test_normalised_range() -> None:
    stats = stats_of(np.array([-2.0, 0.0]), np.array([4.0, 1.0]))
    quantiles = Normalizer(stats, "QUANTILES")
    np.testing.assert_allclose(quantiles.normalize(stats.q01), [-1, -1])
    np.testing.assert_allclose(quantiles.normalize(stats.q99), [1, 1], atol=3e-6)
    np.testing.assert_allclose(quantiles.normalize(stats.q99 + 4 * (stats.q99 - stats.q01)), [9, 9], atol=3e-5)
    np.testing.assert_allclose(Normalizer(stats, "MEAN_STD").normalize(stats.mean + stats.std), [1, 1], atol=1e-5)


@given(
    actions=npst.arrays(np.float64, (2, 4, 3), elements=numbers),
    state=npst.arrays(np.float64, (2, 5), elements=numbers),
    mask=npst.arrays(np.bool_, 3),
)
def test_absolute_undoes_relative(actions: np.ndarray, state: np.ndarray, mask: np.ndarray) -> None:
    moved = relative(actions, state, mask)
    np.testing.assert_allclose(absolute(moved, state, mask), actions, atol=1e-9)
    np.testing.assert_array_equal(moved[..., ~mask], actions[..., ~mask])
    np.testing.assert_array_equal(moved[..., mask], (actions - state[:, None, :3])[..., mask])


def test_relative_with_a_state_shorter_than_the_action() -> None:
    moved = relative(np.ones((4, 3)), np.full(2, 0.25), np.array([True, True, False]))
    np.testing.assert_array_equal(moved, np.tile([0.75, 0.75, 1.0], (4, 1)))


def test_relative_mask_excludes_by_part_of_the_name() -> None:
    names = ["Left_Gripper.pos", "shoulder", "right_gripper", "wrist"]
    assert relative_mask(names, ["gripper"]).tolist() == [False, True, False, True]
    assert relative_mask(names, []).tolist() == [True] * 4
    with pytest.raises(DataError, match="'jaw'"):
        relative_mask(names, ["gripper", "jaw"])


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


def test_resize_keeps_the_aspect_and_centres() -> None:
    wide = np.full((60, 120, 3), 200, np.uint8)
    result = resize_with_pad(wide, 48)
    assert result.shape == (48, 48, 3)
    assert (result[12:36] == 200).all()
    assert not result[:12].any()
    assert not result[36:].any()
    assert (resize_with_pad(wide.transpose(1, 0, 2), 48) == result.transpose(1, 0, 2)).all()


def test_resize_leaves_the_right_size_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    assert resize_with_pad(image, 48) is image


def test_resize_is_antialiased() -> None:
    """Fine stripes become grey; plain bilinear sampling would keep some of them black or white."""
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = resize_with_pad(stripes, 24)[:, 2:-2]
    assert 100 < shrunk.min() <= shrunk.max() < 155


def test_resize_of_an_extreme_aspect_keeps_a_pixel() -> None:
    assert resize_with_pad(np.full((1, 1000, 3), 9, np.uint8), 48).max() == 9
