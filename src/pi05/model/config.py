"""Sizes of the network. Torch-free; the defaults are those of π₀.₅ (openpi `models/gemma.py`, `models/siglip.py`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from pi05.errors import ConfigError

LARGEST = 2**24
"""Bound of every size, far above any network: a damaged file must not ask for memory without end."""
MOST = {"depth": 512, "vision_depth": 512, "image_size": 8192, "patch_size": 8192, "max_prompt_tokens": 2**16}
"""Tighter bounds."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the three towers: SigLIP vision, Gemma language, Gemma action expert."""

    image_size: int = 224
    """Side of the square input image, in pixels; a multiple of `patch_size`."""
    patch_size: int = 14
    """Side of a square image patch, in pixels."""
    vision_width: int = 1152
    """Width of the vision tower; a multiple of `vision_heads`."""
    vision_depth: int = 27
    """Number of vision blocks."""
    vision_mlp: int = 4304
    """Hidden width of the vision MLP."""
    vision_heads: int = 16
    """Attention heads of the vision tower."""
    vocab_size: int = 257152
    """Rows of the token embedding."""
    language_width: int = 2048
    """Width of the language model."""
    language_mlp: int = 16384
    """Hidden width of the language model's gated MLP."""
    expert_width: int = 1024
    """Width of the action expert; even, because half of the time embedding is sine and half cosine."""
    expert_mlp: int = 4096
    """Hidden width of the action expert's gated MLP."""
    depth: int = 18
    """Number of layers, shared by the language model and the action expert."""
    num_heads: int = 8
    """Query heads, the same in both experts."""
    num_kv_heads: int = 1
    """Key and value heads; divides `num_heads`."""
    head_dim: int = 256
    """Width of one attention head; even, because rotary embedding turns pairs."""
    action_dim: int = 32
    """Action dimensions that the network sees; a robot with fewer is padded with zeros."""
    horizon: int = 50
    """Actions in one chunk. No parameter depends on it."""
    max_prompt_tokens: int = 200
    """Longest prompt that is accepted, in tokens; a longer one is an error."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = MOST.get(field.name, LARGEST)
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigError(
                    f"model size {field.name} is impossible",
                    wanted=f"a whole number from 1 to {most:,}",
                    found=repr(value),
                    remedy=f"set {field.name} to a whole number in that range",
                )
        self._require(self.image_size % self.patch_size == 0, "image_size", "a multiple of patch_size")
        self._require(self.vision_width % self.vision_heads == 0, "vision_width", "a multiple of vision_heads")
        self._require(self.num_heads % self.num_kv_heads == 0, "num_heads", "a multiple of num_kv_heads")
        self._require(self.head_dim % 2 == 0, "head_dim", "an even number")
        self._require(self.expert_width % 2 == 0 and self.expert_width >= 4, "expert_width", "an even number from 4 up")

    def _require(self, holds: bool, name: str, wanted: str) -> None:
        if not holds:
            found = f"{name}={getattr(self, name)} in {self}"
            raise ConfigError(f"model size {name} is impossible", wanted=wanted, found=found, remedy=f"change {name}")

    @property
    def patches_per_image(self) -> int:
        """Tokens that one camera image becomes."""
        return (self.image_size // self.patch_size) ** 2

    def to_dict(self) -> dict[str, int]:
        """Return the sizes as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Build from plain data. Raises ConfigError for a name that is not a size."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                "the model configuration has unknown sizes",
                wanted=f"some of {', '.join(sorted(known))}",
                found=", ".join(unknown),
                remedy="remove them, or load the checkpoint with the pi05 version that wrote it",
            )
        return cls(**values)


def pi05() -> ModelConfig:
    """Return the full-size π₀.₅: 3,353,433,872 parameters."""
    return ModelConfig()


def tiny() -> ModelConfig:
    """Return the network of the packaged base `pi05-tiny`, for CPUs."""
    return ModelConfig(
        image_size=48,
        patch_size=12,
        vision_width=128,
        vision_depth=3,
        vision_mlp=256,
        vision_heads=4,
        vocab_size=1024,
        language_width=128,
        language_mlp=256,
        expert_width=96,
        expert_mlp=256,
        depth=4,
        num_heads=4,
        num_kv_heads=1,
        head_dim=32,
        action_dim=32,
        horizon=10,
        max_prompt_tokens=64,
    )


def usual_steps(horizon: int, fps: float | None = None) -> int:
    """Return how many actions of a chunk are executed where nobody says: half of it, and a second of it at most."""
    half = max(1, horizon // 2)
    return half if not fps else min(half, max(1, round(fps)))
