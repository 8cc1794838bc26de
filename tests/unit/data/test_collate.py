"""Batches of observations: trimmed to what is used, padded so that it can be undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pi05.data.collate import StaticShapes, collate, pad_prompts
from pi05.types import Observation

LONGEST = 24
"""Prompt tokens."""


def observation(tokens: list[int], mask: list[bool]) -> Observation:
    rng = np.random.default_rng(len(tokens))
    images = rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    return Observation(images, np.array(mask), np.array(tokens, np.int64))


def test_collate_trims_to_what_is_used() -> None:
    first, second = observation([5, 6, 7], [True, False, False]), observation([*range(1, 11)], [True, True, False])
    batch = collate([first, second], bucket=4)
    assert batch.trimmed
    assert batch.images.shape == (2, 2, 8, 8, 3)
    assert batch.image_mask.tolist() == [[True, False], [True, True]]
    assert batch.tokens.tolist() == [[5, 6, 7] + [0] * 9, [*range(1, 11), 0, 0]]
    assert batch.token_mask.sum(1).tolist() == [3, 10]
    assert batch.actions is None


def test_collate_leaves_out_masks_that_say_nothing() -> None:
    same = observation([1, 2, 3, 4], [True, True, False])
    actions, valid = np.zeros((5, 8), np.float32), np.array([True] * 3 + [False] * 2)
    batch = collate([same, same], [actions, actions], [valid, valid], bucket=4)
    assert batch.image_mask is None
    assert batch.token_mask is None
    assert batch.actions.shape == (2, 5, 8)
    assert batch.action_mask.tolist() == [valid.tolist()] * 2


@given(st.lists(st.lists(st.integers(1, 9), max_size=20), min_size=1, max_size=6), st.integers(1, 9))
def test_padding_can_be_undone(prompts: list[list[int]], bucket: int) -> None:
    tokens, mask = pad_prompts(prompts, bucket)
    assert [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)] == prompts
    assert tokens.shape[1] % bucket == 0
    assert tokens.shape[1] < max(len(prompt) for prompt in prompts) + bucket or tokens.shape[1] == bucket
    assert not tokens[~mask].any()


def shapes(max_batch: int = 4, float_images: bool = False) -> StaticShapes:
    return StaticShapes(max_batch=max_batch, prompt_tokens=LONGEST, float_images=float_images)


def seen(tokens: int, slots: tuple[bool, ...] = (True, True, False)) -> Observation:
    images = np.full((3, 4, 4, 3), tokens, np.uint8)
    return Observation(images=images, image_mask=np.array(slots), tokens=np.arange(1, tokens + 1))


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))],
)
def test_sizes_are_the_powers_of_two_and_the_largest(most: int, sizes: tuple[int, ...]) -> None:
    assert shapes(most).batch_sizes == sizes


def test_a_batch_is_filled_up_behind_its_observations() -> None:
    assert [shapes(6).rows(count) for count in (1, 2, 3, 5)] == [[0], [0, 1], [0, 1, 2, 0], [0, 1, 2, 3, 4, 0]]
    assert shapes(2).rows(3) == [0, 1, 2], "more than the largest: as they come"


@pytest.mark.parametrize("lengths", [(1, 1), (9, 3), (LONGEST, LONGEST), (LONGEST, 2)])
def test_prompts_have_one_length_and_always_a_mask(lengths: tuple[int, int]) -> None:
    observations = [seen(length) for length in lengths]
    batch, plain = shapes().collate(observations), collate(observations)
    assert batch.tokens.shape == (2, LONGEST)
    assert batch.token_mask is not None
    assert batch.token_mask.sum(dim=1).tolist() == list(lengths)
    assert batch.images.shape[1] == 2, "a slot without a camera is not encoded"
    assert batch.trim() is batch
    assert torch.equal(batch.tokens[:, : plain.tokens.shape[1]], plain.tokens)
    assert torch.equal(batch.images, plain.images)


def test_pictures_have_one_type_where_a_resize_leaves_both() -> None:
    batch = shapes(float_images=True).collate([seen(2)])
    assert batch.images.dtype == torch.float32
    assert float(batch.images[0, 0, 0, 0, 0]) == pytest.approx(2 / 255 * 2 - 1)
    assert shapes().collate([seen(2)]).images.dtype == torch.uint8


def test_observations_of_several_policies_are_a_fault_of_the_program() -> None:
    with pytest.raises(ValueError, match="the same cameras"):
        shapes().collate([seen(2), seen(2, (True, False, False))])
