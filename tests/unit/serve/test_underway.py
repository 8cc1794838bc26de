from __future__ import annotations

import numpy as np
import pytest

from pi05.errors import ConfigError
from pi05.serve.underway import Underway


def test_a_delay_beyond_the_chunk_is_refused() -> None:
    left = np.zeros((3, 7), np.float32)
    assert Underway(actions=left, delay=3).delay == 3
    for delay in (4, -1):
        with pytest.raises(ConfigError, match="nothing to do") as told:
            Underway(actions=left, delay=delay)
        assert "0 to 3" in str(told.value)
