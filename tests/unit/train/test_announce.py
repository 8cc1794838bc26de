"""What is said before the first step; the whole page is read in `e2e/test_train.py`."""

from __future__ import annotations

import pytest

from pi05.train.announce import slow_average
from pi05.train.config import TrainConfig
from pi05.train.optim.config import EmaConfig
from pi05.train.watchers.trends import MOST_OF_START


@pytest.mark.parametrize(("decay", "steps"), [(0.999999, 1000), (0.999, 200), (0.99, 10), (0.5, 1)])
def test_an_average_slower_than_the_run_is_told_with_one_that_is_not(decay: float, steps: int) -> None:
    config = TrainConfig(steps=steps, ema=EmaConfig(enable=True, decay=decay))
    share = decay**steps
    assert share > MOST_OF_START
    text = slow_average(config, share)
    assert f"after {steps:,} steps {share:.0%} of it are the weights at the start" in text
    proposed = float(text.split("; --ema.decay=")[1].split(" ")[0])
    assert 0 < proposed < 1
    assert proposed**steps < MOST_OF_START or steps == 1
