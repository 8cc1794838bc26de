from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pi05.data.robot.depth import is_deep


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr"])
def test_a_byte_for_each_value(mode: str) -> None:
    assert not is_deep(Image.new(mode, (2, 2)))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_more_than_a_byte(mode: str) -> None:
    assert is_deep(Image.new(mode, (2, 2)))


def test_a_depth_map_as_a_file() -> None:
    stored = io.BytesIO()
    Image.fromarray(np.full((3, 4), 1500, np.uint16)).save(stored, "PNG")
    assert is_deep(Image.open(stored))
