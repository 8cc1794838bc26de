"""The vision tower: SigLIP So400m/14 without pooling, as π₀.₅ uses it.

Behaviour follows openpi `models/siglip.py`: patches and positions in float32, pre-norm blocks, tanh-GELU, a linear head
to the language width, no class token. Image tokens are not scaled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from pi05.model.config import ModelConfig
from pi05.model.gelu import gelu
from pi05.model.layers import NORM_EPSILON, Linear, attend


class LayerNorm(nn.LayerNorm):
    """Layer normalisation with float32 statistics, returned in the precision of its input."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=NORM_EPSILON)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Normalise the last axis."""
        normed = F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return normed.to(x.dtype)


class VisionAttention(nn.Module):
    """Bidirectional attention among the patches of one image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.out = Linear(width, width)

    def forward(self, x: Float[Tensor, "I P W"]) -> Float[Tensor, "I P W"]:
        """Mix the patches of each image."""
        query = self.query(x).unflatten(-1, (self.heads, -1))
        key = self.key(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        value = self.value(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.out(attend(query, key, value, keys=None))


class VisionMlp(nn.Module):
    """Two linear maps around a tanh-GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = Linear(width, hidden)
        self.down = Linear(hidden, width)
        self.only_infers = False

    def forward(self, x: Float[Tensor, "I P W"]) -> Float[Tensor, "I P W"]:
        """Transform each patch by itself."""
        return self.down(gelu(self.up(x), self.only_infers))


class VisionBlock(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.vision_width)
        self.attention = VisionAttention(config.vision_width, config.vision_heads)
        self.norm2 = LayerNorm(config.vision_width)
        self.mlp = VisionMlp(config.vision_width, config.vision_mlp)

    def forward(self, x: Float[Tensor, "I P W"]) -> Float[Tensor, "I P W"]:
        """Attend, then transform, each added to the stream."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SigLip(nn.Module):
    """Images in, one token per patch out, in the width of the language model."""

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.compute_dtype = compute_dtype
        self.patch_embedding = Linear(3 * config.patch_size**2, config.vision_width)
        self.position_embedding = nn.Parameter(torch.zeros(config.patches_per_image, config.vision_width))
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.vision_depth))
        self.norm = LayerNorm(config.vision_width)
        self.head = Linear(config.vision_width, config.language_width)

    def forward(self, images: Shaped[Tensor, "I height width 3"]) -> Float[Tensor, "I P D"]:
        """Encode images given as uint8 or as float in [-1, 1]. The first map and the positions stay in float32."""
        pixels = images.float() / 255 * 2 - 1 if images.dtype == torch.uint8 else images.float()
        x = self.patch_embedding(self._patches(pixels)) + self.position_embedding.float()
        x = x.to(self.compute_dtype)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def _patches(self, pixels: Float[Tensor, "I height width 3"]) -> Float[Tensor, "I P pixels_per_patch"]:
        """Cut images into patches, row by row; inside a patch the order is (row, column, colour)."""
        count, height, width, _ = pixels.shape
        side = self.patch_size
        tiles = pixels.view(count, height // side, side, width // side, side, 3)
        by_patch = tiles.transpose(2, 3)
        return by_patch.flatten(3).flatten(1, 2)
