"""Numbers that come back from the device; that nothing waits for them is tested in `test_fake_cuda.py`."""

from __future__ import annotations

import math

import torch

from pi05.train.device.readback import Readback


def test_numbers_come_back_as_they_are() -> None:
    found = Readback(torch.tensor([1.5, -2.0, math.inf])).read()
    assert found == [1.5, -2.0, math.inf]
    assert math.isnan(Readback(torch.tensor([math.nan])).read()[0])
