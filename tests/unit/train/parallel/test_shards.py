"""Whole tensors through the functions for split ones: as one would write it without distribution."""

from __future__ import annotations

import pytest
import torch

from pi05.train.parallel.shards import exchange, fill, global_norm, is_sharded, own_part, shard_group, whole


def test_values_change_places_and_tensors_do_not() -> None:
    left, right = torch.arange(3.0), torch.full((3,), 7.0)
    homes = left.data_ptr(), right.data_ptr()
    exchange(left, right)
    assert (left.tolist(), right.tolist()) == ([7.0] * 3, [0.0, 1.0, 2.0])
    assert (left.data_ptr(), right.data_ptr()) == homes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_that_of_all_values_in_float32(dtype: torch.dtype) -> None:
    values = [torch.full((40_000,), 3.0, dtype=dtype), torch.full((100,), 200.0, dtype=dtype)]
    norm = global_norm(values)
    assert norm.dtype == torch.float32
    assert float(norm) == pytest.approx((40_000 * 9 + 100 * 40_000) ** 0.5, rel=1e-6)


def test_a_whole_tensor_is_its_own_part() -> None:
    tensor = torch.ones(4)
    fill(tensor, torch.arange(4.0))
    assert tensor.tolist() == [0, 1, 2, 3]
    assert own_part(tensor) is tensor
    assert whole(tensor).data_ptr() == tensor.data_ptr()
    assert not is_sharded([tensor])
    assert shard_group(tensor) is None
