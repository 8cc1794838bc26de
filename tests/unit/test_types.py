"""Batches: moving, and trimming away what no sample uses."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import small_network
import torch
from hypothesis import given
from hypothesis import strategies as st

from pi05.types import Batch


def batch(lengths: list[int], width: int = 24, cameras: list[list[bool]] | None = None) -> Batch:
    count = len(lengths)
    mask = torch.tensor(cameras if cameras is not None else [[True, True, False]] * count)
    images = torch.arange(count * mask.shape[1] * 12, dtype=torch.uint8).reshape(count, mask.shape[1], 2, 2, 3)
    tokens = torch.arange(count * width).reshape(count, width)
    return Batch(images, mask, tokens, torch.arange(width)[None] < torch.tensor(lengths)[:, None])


def test_trimming_drops_unused_cameras_and_columns() -> None:
    whole = batch([3, 9])
    trimmed = whole.trim()
    assert trimmed.images.shape[1] == 2
    assert torch.equal(trimmed.images, whole.images[:, :2])
    assert trimmed.image_mask is None
    assert trimmed.tokens.shape == (2, 16)
    assert trimmed.token_mask is not None
    assert trimmed.token_mask.sum(1).tolist() == [3, 9]


def test_a_camera_that_one_sample_uses_stays_for_all() -> None:
    trimmed = batch([3, 3], cameras=[[True, False], [False, False]]).trim()
    assert trimmed.images.shape[1] == 1
    assert trimmed.image_mask is not None
    assert trimmed.image_mask.tolist() == [[True], [False]]


def test_a_full_prompt_mask_becomes_none() -> None:
    assert batch([8, 8]).trim().token_mask is None


def test_masks_left_out_stay_out() -> None:
    whole = replace(batch([4]), image_mask=None, token_mask=None)
    trimmed = whole.trim()
    assert trimmed.images is whole.images
    assert trimmed.tokens is whole.tokens
    assert trimmed.trimmed


@given(st.lists(st.integers(0, 24), min_size=1, max_size=4), st.integers(1, 9))
def test_trimming_keeps_every_valid_token(lengths: list[int], bucket: int) -> None:
    whole = batch(lengths)
    assert whole.token_mask is not None
    trimmed = whole.trim(bucket)
    width = trimmed.tokens.shape[1]
    assert max(lengths) <= width <= 24
    assert width == 24 or width % bucket == 0
    assert width - max(lengths) < bucket
    mask = trimmed.token_mask if trimmed.token_mask is not None else torch.ones_like(trimmed.tokens, dtype=torch.bool)
    assert torch.equal(trimmed.tokens[mask], whole.tokens[whole.token_mask])


def test_trimming_twice_changes_nothing() -> None:
    once = batch([3, 9]).trim()
    assert once.trim() is once


def test_moving_moves_every_tensor_and_leaves_the_rest() -> None:
    moved = batch([3]).trim().to("meta")
    assert moved.images.device.type == moved.tokens.device.type == "meta"
    assert moved.actions is None
    assert moved.trimmed


@pytest.mark.skipif("PI05_UNCHECKED_SHAPES" in os.environ, reason="make quick goes without the shape checks")
def test_wrong_shapes_are_refused_in_tests() -> None:
    whole = batch([3])
    with pytest.raises(Exception, match="images"):
        replace(whole, images=whole.images[0])


def test_pinning_takes_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Page-locked memory needs a GPU; here a copy stands for it."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.clone())
    whole = batch([3, 9], cameras=[[True, False], [True, True]]).trim()
    pinned = whole.pin_memory()
    for name in ("images", "image_mask", "tokens", "token_mask", "image_rows"):
        assert torch.equal(getattr(pinned, name), getattr(whole, name))
        assert getattr(pinned, name).data_ptr() != getattr(whole, name).data_ptr()
    assert pinned.actions is None


def test_the_valid_images_are_found_before_the_copy() -> None:
    """So that no GPU is waited for (`train/test_fake_cuda.py`); the loss is that of selecting by the mask."""
    batch = replace(
        small_network.make_batch(3),
        image_mask=torch.tensor([[True, True], [False, True], [True, False]]),
        trimmed=False,
    ).trim()
    assert batch.image_rows is not None
    assert batch.image_rows.tolist() == [0, 1, 3, 4]
    model, config = small_network.make_model(), small_network.CONFIG
    noise, time = torch.randn(3, config.horizon, config.action_dim), torch.rand(3)
    losses = [model.loss(each, noise=noise, time=time) for each in (batch, replace(batch, image_rows=None))]
    assert torch.equal(*losses)


def test_the_valid_tokens_are_counted_before_the_copy() -> None:
    assert batch([3, 9]).trim().counted_tokens == 12
    assert batch([9, 9]).trim(bucket=1).counted_tokens is None, "there is no mask"
    assert batch([3, 9]).trim().to("meta").counted_tokens == 12
