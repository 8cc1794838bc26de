"""Storage counted as it comes and goes, against real memory."""

from __future__ import annotations

import pytest
import torch

from pi05.train.plan.live_memory import PACKED_BACKWARD, LiveStorage, _kernels_own


def test_live_storage_counts_real_memory_as_it_comes_and_goes() -> None:
    tracker = LiveStorage(device="cpu", block=1)
    with tracker:
        first = torch.zeros(1000)
        view = first[10:]
        second = first + 1
        assert tracker.total == 8000
        del first
        assert tracker.total == 8000, "the view holds it"
        del view
        assert tracker.total == 4000
        with tracker.making("workspace"):
            third = second * 2
        tracker.adopt([second], "weights")
    assert tracker.live == {"activations": 0, "weights": 4000, "workspace": 4000}
    del second, third
    assert tracker.total == 0
    assert tracker.peak == 8000


class PackedBackward:
    """Stands for PyTorch's operation where there is none."""

    def name(self) -> str:
        return PACKED_BACKWARD


@pytest.mark.parametrize(("key_heads", "for_keys"), [(8, 0), (1, 2 * 8 * (90 * 256 * 2))])
def test_flash_over_packed_keys_adds_up_in_float32_with_a_block_of_rows_more_in_each_sample(
    key_heads: int, for_keys: int
) -> None:
    """`dq_accum` of `mha_varlen_bwd`: total_q + 128 · batch rows; keys that heads share have a gradient for each."""
    query = torch.empty(60, 8, 256, dtype=torch.bfloat16, device="meta")
    key = torch.empty(90, key_heads, 256, dtype=torch.bfloat16, device="meta")
    starts = torch.empty(3 + 1, dtype=torch.int32, device="meta")
    given = (query, query, key, key, query, query[..., 0], starts, starts)
    assert _kernels_own(PackedBackward(), given) == 4 * (60 + 128 * 3) * 8 * 256 + for_keys
