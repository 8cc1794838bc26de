"""Pictures of any size into the network's black-padded square: openpi's way and LeRobot's.

openpi's client uses PIL's bilinear filter, which averages over all pixels that fall into one (antialiased), and rounds
to bytes. LeRobot interpolates between the nearest four pixels, in float32, without rounding, so that fine texture
flickers where a picture is shrunk. A policy keeps the way that it was trained with.

A picture that has the size already is left alone by both. Sources: openpi `openpi_client/image_tools.py`, LeRobot
`policies/common/vla_utils.py`; checked against both in tests/parity.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from PIL import Image

Resize = Literal["pil-bilinear-antialias-pad", "lerobot-bilinear-pad", "lerobot-0.4-bilinear-pad"]
OPENPI_RESIZE: Resize = "pil-bilinear-antialias-pad"
LEROBOT_RESIZE: Resize = "lerobot-bilinear-pad"
OLD_LEROBOT_RESIZE: Resize = "lerobot-0.4-bilinear-pad"
"""LeRobot up to 0.4.4 padded pictures in [0, 1] with -1, which its scaling to [-1, 1] turned into -3."""
RESIZES: tuple[Resize, ...] = (OPENPI_RESIZE, LEROBOT_RESIZE, OLD_LEROBOT_RESIZE)


def resize_with_pad(image: UInt8[np.ndarray, "height width 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Fit the image into a black square of `size` pixels, keeping its aspect; antialiased bilinear (PIL).

    An image that has the size already is returned as it is. Same pixels as openpi's client.
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    new_height, new_width = _fitted(height, width, size)
    resized = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
    padded = np.zeros((size, size, 3), np.uint8)
    top, left = int((size - new_height) / 2), int((size - new_width) / 2)
    padded[top : top + new_height, left : left + new_width] = np.asarray(resized)
    return padded


def interpolate_with_pad(
    image: Float[np.ndarray, "height width 3"], size: int, pad: float = 0.0
) -> Float32[np.ndarray, "size size 3"]:
    """Fit an image in [0, 1] into a square of `pad` as LeRobot does: bilinear, not antialiased, not rounded."""
    height, width = image.shape[:2]
    fitted = _fitted(height, width, size)
    channels_first = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
    resized = F.interpolate(channels_first, size=fitted, mode="bilinear", align_corners=False).clamp(0.0, 1.0)
    top, left = (size - fitted[0]) // 2, (size - fitted[1]) // 2
    padded = np.full((size, size, 3), pad, np.float32)
    padded[top : top + fitted[0], left : left + fitted[1]] = resized[0].permute(1, 2, 0).numpy()
    return padded


def fit_image(
    image: UInt8[np.ndarray, "height width 3"], size: int, resize: Resize
) -> UInt8[np.ndarray, "size size 3"] | Float32[np.ndarray, "size size 3"]:
    """Return the picture as the network takes it: bytes, or float32 in [-1, 1] where LeRobot's way changed its size."""
    if resize == OPENPI_RESIZE or image.shape[:2] == (size, size):
        return resize_with_pad(image, size)
    pad = -1.0 if resize == OLD_LEROBOT_RESIZE else 0.0
    return interpolate_with_pad(to_unit(image), size, pad) * np.float32(2) - np.float32(1)


def fit_image_to_bytes(
    image: UInt8[np.ndarray, "height width 3"], size: int, resize: Resize
) -> UInt8[np.ndarray, "size size 3"]:
    """Return the picture in bytes, for the frame cache: LeRobot's way is rounded there, by at most 0.5 of 255.

    Raises ValueError for the padding of LeRobot up to 0.4.4, which bytes cannot hold.
    """
    if resize == OLD_LEROBOT_RESIZE:
        raise ValueError("the padding of LeRobot 0.4 lies outside of what bytes hold")
    if resize == OPENPI_RESIZE or image.shape[:2] == (size, size):
        return resize_with_pad(image, size)
    return np.rint(interpolate_with_pad(to_unit(image), size) * 255).astype(np.uint8)


def to_unit(image: UInt8[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Return bytes as float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)


def to_signed(images: UInt8[np.ndarray, "*shape"] | Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Return images as float32 in [-1, 1], by the network's own rule for bytes; floats are that already."""
    if images.dtype != np.uint8:
        return images.astype(np.float32, copy=False)
    return to_unit(images) * np.float32(2) - np.float32(1)


def _fitted(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the height and width that fill the square in one direction; a pixel at least."""
    ratio = max(width / size, height / size)
    return max(1, int(height / ratio)), max(1, int(width / ratio))
