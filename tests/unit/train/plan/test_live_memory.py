"""Storage counted as it comes and goes, against real memory."""

from __future__ import annotations

import torch

from pi05.train.plan.live_memory import LiveStorage


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
