"""Which pictures have more than a byte for each value: depth maps, 16-bit grey. Pillow would cut them off at 255."""

from __future__ import annotations

from PIL import Image


def is_deep(image: Image.Image) -> bool:
    """Tell whether a picture's values are not whole numbers from 0 to 255."""
    return image.mode in ("F", "I") or image.mode.startswith("I;")
