"""The language model and the action expert: two Gemma stacks of equal depth that share attention, nothing else.

Behaviour follows openpi `models/gemma.py`. The prefix (images and prompt) never sees the actions, so the two stacks run
one after the other: the language stack leaves its keys and values per layer (the key/value cache, KV cache), and the
expert reads them. Who sees whom (the attention mask):

    queries \\ keys    prefix   actions
    prefix               x                 language layer: only keys that are valid
    actions              x         x       expert layer: the same, and every action

Only the expert is adaptive: its norms take scale, shift and gate from the flow time. Two things are computed by the
peers and read by nobody, and therefore not computed here: in the last language layer everything but keys and values,
and the language model's final norm. Their parameters exist, so that checkpoints are complete.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pi05.model.config import ModelConfig
from pi05.model.gelu import gated
from pi05.model.layers import NORM_EPSILON, Keys, Linear, attend, keys_that_count
from pi05.model.packed_keys import Packing

ROPE_MAX_WAVELENGTH = 10_000.0
UNREAD_IN_LAST_LAYER = ("attention.query", "attention.out", "mlp_norm", "mlp")
"""Parts of the last language layer that nothing reads, because of its keys and values alone something is read."""

Rotation = tuple[Float[Tensor, "B S pairs"], Float[Tensor, "B S pairs"]]
KeyValue = tuple[Float[Tensor, "B K L H"], Float[Tensor, "B K L H"]]


class Modulation(NamedTuple):
    """What an adaptive norm does to its input: one for all samples or one each, one for all positions or one each."""

    scale: Float[Tensor, "_ _ E"]
    """What the input is multiplied with, in float32."""
    shift: Float[Tensor, "_ _ E"]
    gate: Float[Tensor, "_ _ E"]


Condition = Float[Tensor, "B E"] | Float[Tensor, "B S E"]
"""What the flow time tells the expert's norms, one for all positions of a sample or one for each."""


def rotation(positions: Int[Tensor, "B S"], head_dim: int) -> Rotation:
    """Return cosine and sine of the rotary position embedding (RoPE), in float32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions.float()[..., None] / ROPE_MAX_WAVELENGTH**exponents
    return angles.cos(), angles.sin()


def rotate(x: Float[Tensor, "B S N H"], by: Rotation) -> Float[Tensor, "B S N H"]:
    """Turn the halves of each head against each other (not interleaved pairs), in float32."""
    cos, sin = by[0][:, :, None, :], by[1][:, :, None, :]
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def normalize_rms(x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    """Divide by the root mean square of the last axis; the result is float32."""
    return F.rms_norm(x.float(), x.shape[-1:], eps=NORM_EPSILON)


class RmsNorm(nn.Module):
    """Gemma's RMSNorm: the learned scale is stored as its difference from 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "B S W"]) -> Float[Tensor, "B S W"]:
        """Normalise and scale."""
        return (normalize_rms(x) * (1 + self.scale.float())).to(x.dtype)


class AdaptiveRmsNorm(nn.Module):
    """RMSNorm whose scale and shift come from a condition (adaRMS), with a gate for the branch that follows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = Linear(width, 3 * width)

    def forward(
        self, x: Float[Tensor, "B S E"], condition: Condition | Modulation
    ) -> tuple[Float[Tensor, "B S E"], Float[Tensor, "_ _ E"]]:
        """Return the normalised input and the gate."""
        known = condition if isinstance(condition, Modulation) else self.modulate(condition, x.dtype)
        return (normalize_rms(x) * known.scale + known.shift).to(x.dtype), known.gate

    def modulate(self, condition: Condition, dtype: torch.dtype) -> Modulation:
        """Return what a condition does, computed in the precision of the input.

        1 + scale is float32: written in bfloat16 in openpi, but XLA does not round there (compared value by value).
        """
        modulation = self.modulation(condition.to(dtype))
        if modulation.dim() == 2:
            modulation = modulation[:, None, :]
        scale, shift, gate = modulation.chunk(3, dim=-1)
        return Modulation(1 + scale.float(), shift, gate)


class Attention(nn.Module):
    """The projections of one expert's attention."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.query = Linear(width, config.num_heads * config.head_dim, bias=False)
        self.key = Linear(width, config.num_kv_heads * config.head_dim, bias=False)
        self.value = Linear(width, config.num_kv_heads * config.head_dim, bias=False)
        self.out = Linear(config.num_heads * config.head_dim, width, bias=False)

    def queries(self, x: Float[Tensor, "B S W"], by: Rotation) -> Float[Tensor, "B S N H"]:
        """Project to rotated query heads."""
        return rotate(self.query(x).unflatten(-1, (-1, self.head_dim)), by)

    def keys_values(self, x: Float[Tensor, "B S W"], by: Rotation) -> KeyValue:
        """Project to rotated key heads and plain value heads, heads before positions."""
        key = rotate(self.key(x).unflatten(-1, (-1, self.head_dim)), by)
        value = self.value(x).unflatten(-1, (-1, self.head_dim))
        return key.transpose(1, 2), value.transpose(1, 2)


class GatedMlp(nn.Module):
    """Gemma's MLP: a tanh-GELU gate times a linear branch."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = Linear(width, hidden, bias=False)
        self.up = Linear(width, hidden, bias=False)
        self.down = Linear(hidden, width, bias=False)
        self.only_infers = False

    def forward(self, x: Float[Tensor, "B S W"]) -> Float[Tensor, "B S W"]:
        """Transform each position by itself."""
        return self.down(gated(self.gate(x), self.up(x), self.only_infers))


class LanguageLayer(nn.Module):
    """One layer of the language model over the prefix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RmsNorm(config.language_width)
        self.attention = Attention(config.language_width, config)
        self.mlp_norm = RmsNorm(config.language_width)
        self.mlp = GatedMlp(config.language_width, config.language_mlp)

    def forward(
        self, x: Float[Tensor, "B L D"], by: Rotation, keys: Keys, last: bool
    ) -> tuple[Float[Tensor, "B L D"] | None, KeyValue]:
        """Return the stream (None after the last layer, where nothing reads it) and the keys and values."""
        normed = self.attention_norm(x)
        key, value = self.attention.keys_values(normed, by)
        if last:
            return None, (key, value)
        x = x + self.attention.out(attend(self.attention.queries(normed, by), key, value, keys))
        x = x + self.mlp(self.mlp_norm(x))
        return x, (key, value)


class ExpertLayer(nn.Module):
    """One layer of the action expert; it reads the prefix through the language layer's keys and values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = AdaptiveRmsNorm(config.expert_width)
        self.attention = Attention(config.expert_width, config)
        self.mlp_norm = AdaptiveRmsNorm(config.expert_width)
        self.mlp = GatedMlp(config.expert_width, config.expert_mlp)

    def forward(
        self,
        x: Float[Tensor, "B A E"],
        condition: Condition | tuple[Modulation, Modulation],
        by: Rotation,
        prefix: KeyValue,
        keys: Keys,
    ) -> Float[Tensor, "B A E"]:
        """Attend to prefix and actions, then transform; each branch is gated by the condition."""
        first, second = condition if isinstance(condition, tuple) else (condition, condition)
        normed, gate = self.attention_norm(x, first)
        key, value = self.attention.keys_values(normed, by)
        key = torch.cat([prefix[0], key], dim=2)
        value = torch.cat([prefix[1], value], dim=2)
        x = x + gate * self.attention.out(attend(self.attention.queries(normed, by), key, value, keys))
        normed, gate = self.mlp_norm(x, second)
        return x + gate * self.mlp(normed)

    def modulate(self, condition: Condition, dtype: torch.dtype) -> tuple[Modulation, Modulation]:
        """Return what a condition does to the two norms."""
        return self.attention_norm.modulate(condition, dtype), self.mlp_norm.modulate(condition, dtype)


class Modulations(NamedTuple):
    """Of the norms of every expert layer, and of the last norm."""

    layers: list[tuple[Modulation, Modulation]]
    norm: Modulation


def modulations_at(index: int, known: Modulations) -> Modulations:
    """Return those of one flow time, where they were computed for several, one in each row.

    No method: Dynamo cannot trace a checked method (jaxtyping) of a tuple that is made while it traces.
    """
    layers = [(_row(index, first), _row(index, second)) for first, second in known.layers]
    return Modulations(layers, _row(index, known.norm))


def _row(index: int, one: Modulation) -> Modulation:
    row = slice(index, index + 1)
    return Modulation(one.scale[row], one.shift[row], one.gate[row])


class Language(nn.Module):
    """The language stack. `norm` is kept for checkpoints; nothing in π₀.₅ reads its output."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.layers = nn.ModuleList(LanguageLayer(config) for _ in range(config.depth))
        self.norm = RmsNorm(config.language_width)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        positions: Int[Tensor, "B L"],
        valid: Bool[Tensor, "B L"] | None,
        packing: Packing | None = None,
    ) -> list[KeyValue]:
        """Return rotated keys and values of every layer."""
        by, keys = rotation(positions, self.head_dim), keys_that_count(valid, x.shape[1], x.dtype, packing)
        cache = []
        stream: Tensor | None = x
        for index, layer in enumerate(self.layers):
            stream, key_value = layer(stream, by, keys, last=index == len(self.layers) - 1)
            cache.append(key_value)
        return cache


class Expert(nn.Module):
    """The action expert's stack, with its adaptive final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.layers = nn.ModuleList(ExpertLayer(config) for _ in range(config.depth))
        self.norm = AdaptiveRmsNorm(config.expert_width)

    def forward(
        self,
        x: Float[Tensor, "B A E"],
        condition: Condition | Modulations,
        positions: Int[Tensor, "B A"],
        cache: list[KeyValue],
        valid: Bool[Tensor, "B L+A"] | None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "B A E"]:
        """Run the actions through all layers; the final norm's gate is not used."""
        by, keys = rotation(positions, self.head_dim), keys_that_count(valid, x.shape[1], x.dtype, packing)
        for index, (layer, prefix) in enumerate(zip(self.layers, cache, strict=True)):
            x = layer(x, condition if isinstance(condition, Tensor) else condition.layers[index], by, prefix, keys)
        return self.norm(x, condition if isinstance(condition, Tensor) else condition.norm)[0]

    def modulate(self, condition: Condition, dtype: torch.dtype) -> Modulations:
        """Return what a condition does to all norms."""
        layers = [layer.modulate(condition, dtype) for layer in cast("list[ExpertLayer]", self.layers)]
        return Modulations(layers, self.norm.modulate(condition, dtype))
