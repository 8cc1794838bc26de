"""Batches of observations: trimmed to what is used, padded so that it can be undone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pi05.data.collate import collate, pad_prompts
from pi05.types import Observation


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
