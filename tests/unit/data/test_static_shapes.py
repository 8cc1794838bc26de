"""Few shapes: sizes and rows of batches, prompts of one length, pictures of one type."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pi05.data.collate import collate
from pi05.data.static_shapes import StaticShapes
from pi05.types import Observation

LONGEST = 24


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
