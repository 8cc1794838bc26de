"""openpi's training augmentation in closed form, on whole batches.

What augmax 0.4.1 makes of openpi's settings in its JAX code (`models/model.py`), checked against recorded draws in
tests/parity/test_augment_golden.py; the settings read differently:

* Images that are not from a wrist: one bilinear resample for crop (212 of 224 pixels), resize and rotation by up to
  ±5°, black outside. The draw belongs to the sample.
* All images: colour jitter (brightness, contrast and hue in HSV) with probability 0.5. Saturation stays. One draw for
  the scene image, another one that the wrist images of a sample share, as they do in openpi.

Sizes other than 224 scale the crop. Draws are a pure function of (seed, sample number), so they depend neither on
the batch size nor on which worker makes the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

CROP = 212 / 224
MAX_ANGLE = math.radians(5)
BRIGHTNESS, CONTRAST, HUE = 0.3, 0.4, 0.1
PROBABILITY = 0.5
_DRAWS = 3 + 2 * 4
"""Uniform numbers per sample: crop y, crop x, angle; then brightness, contrast, hue, apply for scene and for wrist."""


@dataclass(frozen=True)
class AugmentDraws:
    """Random numbers of one batch. `crop_*` run from -1 to 1 over the play of the crop; `angle` in radians."""

    crop_y: Float[Tensor, " B"]
    crop_x: Float[Tensor, " B"]
    angle: Float[Tensor, " B"]
    brightness: Float[Tensor, "B C"]
    contrast: Float[Tensor, "B C"]
    hue: Float[Tensor, "B C"]
    """Fraction of the colour circle."""
    apply: Bool[Tensor, "B C"]
    """Whether the colours of this image change at all."""


def draw_at(seed: int, samples: Sequence[int] | np.ndarray, wrist: Sequence[bool]) -> AugmentDraws:
    """Draw for the samples with these global numbers: the same numbers for the same (seed, sample), always."""
    counters = np.asarray(samples, np.uint64)[:, None] * np.uint64(_DRAWS) + np.arange(_DRAWS, dtype=np.uint64)
    start = _mix(np.array([seed % 2**64], np.uint64))
    bits = _mix(start + (counters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    uniforms = (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    return _from_uniforms(torch.from_numpy(uniforms), wrist)


def _mix(values: np.ndarray) -> np.ndarray:
    """Return the SplitMix64 finaliser of each value: counters become random numbers (arithmetic wraps)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _from_uniforms(uniforms: Float[Tensor, "B draws"], wrist: Sequence[bool]) -> AugmentDraws:
    geometry = uniforms[:, :3] * 2 - 1
    kind = torch.tensor([int(is_wrist) for is_wrist in wrist])
    colour = uniforms[:, 3:].reshape(-1, 2, 4)[:, kind]
    symmetric = colour[..., :3] * 2 - 1
    return AugmentDraws(
        crop_y=geometry[:, 0],
        crop_x=geometry[:, 1],
        angle=geometry[:, 2] * MAX_ANGLE,
        brightness=symmetric[..., 0] * BRIGHTNESS,
        contrast=symmetric[..., 1] * CONTRAST,
        hue=symmetric[..., 2] * HUE,
        apply=colour[..., 3] < PROBABILITY,
    )


def augment(
    images: Shaped[Tensor, "B C size size 3"], wrist: Sequence[bool], draws: AugmentDraws
) -> Float[Tensor, "B C size size 3"]:
    """Return augmented float32 images in [-1, 1] from uint8 images, or from float images in [-1, 1].

    The result is laid out in memory by colour planes, which the arithmetic here and the network's first layer want.
    """
    planes = images.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    unit = planes.div_(255) if images.dtype == torch.uint8 else planes.add_(1).div_(2)
    for camera, is_wrist in enumerate(wrist):
        if not is_wrist:
            unit[:, camera] = move(unit[:, camera], draws)
    changed = draws.apply.to(unit.device).nonzero(as_tuple=True)
    if len(changed[0]):
        amounts = [values.to(unit.device)[changed] for values in (draws.brightness, draws.contrast, draws.hue)]
        unit[changed] = recolour(unit[changed], *amounts)
    return unit.mul_(2).sub_(1).permute(0, 1, 3, 4, 2)


def move(images: Float[Tensor, "B 3 size size"], draws: AugmentDraws) -> Float[Tensor, "B 3 size size"]:
    """Crop, resize and rotate in one bilinear resample; what lies outside is black."""
    # the grid runs from -1 to 1 across the image (align_corners=False): centred pixels × 2 / size
    play = 1 - CROP
    cosine, sine = torch.cos(draws.angle) * CROP, torch.sin(draws.angle) * CROP
    middles = (torch.arange(images.shape[-1]) * 2 + 1) / images.shape[-1] - 1
    x, y = middles[None, None, :], middles[None, :, None]
    grid = torch.empty(len(images), *images.shape[2:], 2)
    grid[..., 0] = _per_image(cosine) * x + (_per_image(draws.crop_x * play) - _per_image(sine) * y)
    grid[..., 1] = _per_image(sine) * x + (_per_image(draws.crop_y * play) + _per_image(cosine) * y)
    grid = grid.to(images.device)
    return torch.nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def recolour(
    images: Float[Tensor, "N 3 size size"],
    brightness: Float[Tensor, " N"],
    contrast: Float[Tensor, " N"],
    hue: Float[Tensor, " N"],
) -> Float[Tensor, "N 3 size size"]:
    """Change brightness and contrast of the HSV value, and turn the hue; images in [0, 1]."""
    old_value, chroma, sixths = _value_chroma_hue(images)
    value = _stretch(_brighten(old_value, _per_image(brightness)), _per_image(contrast))
    chroma = chroma.mul_(value).div_(old_value.clamp_min_(1e-12))
    sixths += _per_image(6 * hue)
    # HSV → RGB without cases: channel c is V - V·S·clamp(min(k, 4 - k), 0, 1), k = (offset_c + 6·H) mod 6;
    # 6·H lies between -1.6 and 5.6 here, where that is clamp(2 - ||k - 5| - 3|, 0, 1) without the modulo
    offsets = torch.tensor([0.0, -2.0, -4.0], device=images.device)[:, None, None]
    share = (sixths[:, None] + offsets).abs_().sub_(3).abs_().neg_().add_(2).clamp_(0, 1)
    return value[:, None] - chroma[:, None] * share


def _per_image(values: Float[Tensor, " N"]) -> Float[Tensor, "N 1 1"]:
    return values[:, None, None]


def _value_chroma_hue(images: Float[Tensor, "N 3 h w"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return HSV's value, value × saturation, and the hue in sixths of the circle (-1 to 5)."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    safe = chroma.clamp_min(1e-12)
    from_green = torch.where(value == green, (blue - red).div_(safe).add_(2), (red - green).div_(safe).add_(4))
    sixths = torch.where(value == red, (green - blue).div_(safe), from_green)
    return value, chroma, sixths


def _brighten(value: Tensor, brightness: Tensor) -> Tensor:
    """Mix with black (below 0) or with white (above 0)."""
    return value * (1 - brightness.abs()) + brightness.clamp_min(0)


def _stretch(value: Tensor, contrast: Tensor) -> Tensor:
    """Apply augmax's contrast: slope s about the middle, slope 1/s at both ends, so that 0 and 1 stay."""
    slope = torch.tan((contrast + 1) * (math.pi / 4))
    knee = slope / (2 * (1 + slope))  # augmax writes (s - s²) / (2 (1 - s²)), which is 0/0 at s = 1
    bend = (value - (1 - knee)).clamp_min_(0).sub_((knee - value).clamp_min_(0))
    return bend.mul_(1 / slope - slope).add_(slope * (value - 0.5)).add_(0.5)
