"""Frames as pictures inside an HTML page: a still, a strip of stills, a moving clip.

Everything becomes a `data:` address, so that a report stays one file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def still(frame: UInt8[np.ndarray, "height width 3"]) -> str:
    """Return one picture as a lossless `data:` address."""
    return _address(Image.fromarray(frame), "png", optimize=True)


def strip(frames: Sequence[UInt8[np.ndarray, "height width 3"]], count: int = 7) -> list[str]:
    """Return up to `count` frames, evenly spaced from the first to the last, as `data:` addresses."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    return [_address(Image.fromarray(frames[i]), "webp", quality=80) for i in chosen]


def row(frames: Sequence[UInt8[np.ndarray, "height width 3"]], height: int, quality: int = 70) -> str:
    """Return frames side by side as one picture, `height` pixels high, as a `data:` address."""
    parts = [Image.fromarray(frame) for frame in frames]
    parts = [part.resize((max(1, round(part.width * height / part.height)), height)) for part in parts]
    whole = Image.new("RGB", (sum(part.width for part in parts) + 2 * (len(parts) - 1), height))
    x = 0
    for part in parts:
        whole.paste(part, (x, 0))
        x += part.width + 2
    return _address(whole, "webp", quality=quality)


def clip(frames: Sequence[UInt8[np.ndarray, "height width 3"]], frame_ms: int) -> str:
    """Return the frames as an endless moving picture that rests on its last frame for a second."""
    pictures = [Image.fromarray(frame) for frame in frames]
    durations = [frame_ms] * (len(pictures) - 1) + [1000]
    return _address(
        pictures[0], "webp", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=70, method=3
    )


def _address(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
