"""π₀.₅: what the robot sees and is told goes in, a chunk of actions comes out.

    images ─► SigLip ─┐
                      ├─► prefix ─► Language ─► keys and values of every layer
    prompt ─► embed ──┘                                   │
    noisy actions x_t ─► action_in ─► Expert ◄────────────┘ ─► action_out ─► velocity v_t
    flow time t ─► sine/cosine ─► time_in ─► time_out ─► condition ─▲

Behaviour follows openpi `models/pi0.py` with `pi05=True`. Tensors in, tensors out: no files, no robots, no training
loop. Compilation, activation checkpointing, adapters and distribution are applied from outside.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn

from pi05.model import flow
from pi05.model.config import ModelConfig
from pi05.model.gemma import UNREAD_IN_LAST_LAYER, Expert, KeyValue, Language, Modulations, modulations_at
from pi05.model.layers import Linear
from pi05.model.packed_keys import Packing, Varlen, packing_of
from pi05.model.siglip import SigLip
from pi05.types import Batch, valid_rows

FLOAT32_MAPS = ("vision.patch_embedding", "action_in", "action_out", "time_in", "time_out")
"""Maps that compute in float32 whatever the precision of the towers, as in openpi: pixels, actions and flow time."""


class Pi05(nn.Module):
    """The network. Parameters keep their precision; the towers compute in `compute_dtype`, the flow in float32."""

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.vision = SigLip(config, compute_dtype)
        self.embedding = nn.Embedding(config.vocab_size, config.language_width)
        self.language = Language(config)
        self.expert = Expert(config)
        self.action_in = Linear(config.action_dim, config.expert_width)
        self.action_out = Linear(config.expert_width, config.action_dim)
        self.time_in = Linear(config.expert_width, config.expert_width)
        self.time_out = Linear(config.expert_width, config.expert_width)
        self.varlen: Varlen | None = None
        """What `loss` reads packed keys with, once that is known to be right; None: keys are masked."""
        self.origin: str | None = None
        """Where the weights come from, for people; None: drawn, or not told."""

    def __repr__(self) -> str:
        """Return the network in a few lines; `torch.nn.Module.__repr__(model)` is the tree of its modules."""
        numbers = [parameter.numel() for parameter in self.parameters()]
        trained = sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
        dtypes = ", ".join(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in self.parameters()}))
        device, sizes = self.embedding.weight.device, self.config
        return (
            f"Pi05, {sum(numbers):,} parameters ({trained:,} with gradients), {dtypes} on {device}, "
            f"computes in {str(self.compute_dtype).removeprefix('torch.')}\n"
            f"  weights  {self.origin or 'of no checkpoint'}\n"
            f"  images   3 slots of {sizes.image_size} × {sizes.image_size} px\n"
            f"  actions  {sizes.horizon} steps of {sizes.action_dim} numbers\n"
            f"  prompt   at most {sizes.max_prompt_tokens} tokens"
        )

    @property
    def compute_dtype(self) -> torch.dtype:
        """Precision of the three towers."""
        return self.vision.compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, dtype: torch.dtype) -> None:
        self.vision.compute_dtype = dtype

    @property
    def tower_maps(self) -> dict[str, Linear]:
        """The linear maps that compute in the towers' precision, by name; `FLOAT32_MAPS` are the others."""
        return {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, Linear) and name not in FLOAT32_MAPS
        }

    @property
    def unread_modules(self) -> tuple[str, ...]:
        """Modules whose output nothing reads (`gemma.py` says why): their parameters never get a gradient."""
        last = f"language.layers.{self.config.depth - 1}"
        return (*(f"{last}.{part}" for part in UNREAD_IN_LAST_LAYER), "language.norm")

    def is_read(self, name: str) -> bool:
        """Tell whether anything reads a parameter, one of an adapter included; only then can training move it."""
        return not name.startswith(tuple(f"{module}." for module in self.unread_modules))

    def loss(
        self,
        batch: Batch,
        noise: Float[Tensor, "KB A X"] | None = None,
        time: Float[Tensor, " KB"] | None = None,
        generator: torch.Generator | None = None,
        flow_samples: int = 1,
        delay: Int64[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B A X"]:
        """Return the squared error of the predicted velocity, per element.

        With `flow_samples` K > 1 the prefix is computed once and K draws of noise and time share it; the result is the
        mean over the draws. Given `noise` and `time` then hold the K draws of the first sample, then of the second.
        The first `delay` actions of a sample are committed: given clean, and their errors say nothing.
        """
        if batch.actions is None:
            raise ValueError("the loss needs batch.actions")
        actions = batch.actions.float().repeat_interleave(flow_samples, dim=0)
        if noise is None:
            noise = torch.randn(actions.shape, generator=generator, device=actions.device)
        if time is None:
            time = flow.sample_time(len(actions), generator, actions.device)
        if delay is not None:
            committed = flow.committed_steps(delay, actions.shape[1]).repeat_interleave(flow_samples, dim=0)
            time = flow.time_per_step(time, committed)
        x_t, u_t = flow.interpolate(actions, noise, time)
        batch = batch if batch.prefix is not None else batch.trim()
        packing = None if self.varlen is None else packing_of(batch, self.config.patches_per_image, self.varlen)
        cache, valid = self.read_prefix(batch, packing)
        v_t = self.velocity(x_t, time, cache, valid, packing)
        errors = (v_t - u_t).square()
        if flow_samples == 1:
            return errors
        return errors.unflatten(0, (-1, flow_samples)).mean(dim=1)

    @torch.no_grad()
    def sample_actions(
        self,
        batch: Batch,
        noise: Float[Tensor, "B A X"] | None = None,
        num_steps: int = 10,
        generator: torch.Generator | None = None,
        steer: flow.Steer | None = None,
        committed: tuple[Float[Tensor, "B A X"], Int64[Tensor, " B"]] | None = None,
    ) -> Float[Tensor, "B A X"]:
        """Return a chunk of normalised actions: `num_steps` denoising steps (Euler) from noise at t = 1 to t = 0.

        `steer` stands between the network and each step. `committed`, actions and delay, is for a network that was
        trained with delays: the first `delay` actions of each chunk are these, and the rest continues them.
        """
        tokens, valid = self.embed_prefix(batch)
        cache = self.prefill(tokens, valid)
        if noise is None:
            shape = (len(tokens), self.config.horizon, self.config.action_dim)
            noise = torch.randn(shape, generator=generator, device=tokens.device)
        return self.denoise(noise.float(), cache, valid, num_steps, steer, committed)

    def denoise(
        self,
        x_t: Float[Tensor, "B A X"],
        cache: list[KeyValue],
        valid: Bool[Tensor, "B L"] | None,
        num_steps: int,
        steer: flow.Steer | None = None,
        committed: tuple[Float[Tensor, "B A X"], Int64[Tensor, " B"]] | None = None,
    ) -> Float[Tensor, "B A X"]:
        """Return the actions that the flow leads to from noise, on a prefix that is computed already.

        Where nothing is steered or committed, what the flow times do to the expert's norms is computed ahead.
        """
        if steer is None and committed is None:
            known = self.expert.modulate(self.condition(flow.step_times(num_steps, x_t.device)), self.compute_dtype)
            for index in range(num_steps):
                x_t = x_t - self.velocity_under(x_t, modulations_at(index, known), cache, valid) / num_steps
            return x_t
        velocity = partial(self.free_velocity, cache=cache, valid=valid, committed=committed)
        time = torch.ones(len(x_t), device=x_t.device)
        for _ in range(num_steps):
            v_t = velocity(x_t, time) if steer is None else steer(velocity, x_t, time)
            x_t = x_t - v_t / num_steps
            time = time - 1 / num_steps
        return x_t if committed is None else flow.hold(x_t, *committed)

    def free_velocity(
        self,
        x_t: Float[Tensor, "B A X"],
        time: Float[Tensor, " B"],
        cache: list[KeyValue],
        valid: Bool[Tensor, "B L"] | None,
        committed: tuple[Float[Tensor, "B A X"], Int64[Tensor, " B"]] | None,
    ) -> Float[Tensor, "B A X"]:
        """Return the velocity v_t; what is said of committed actions means nothing, they stand at t = 0."""
        if committed is None:
            return self.velocity(x_t, time, cache, valid)
        held = flow.committed_steps(committed[1], x_t.shape[1])
        return self.velocity(flow.hold(x_t, *committed), flow.time_per_step(time, held), cache, valid)

    def encode_images(
        self,
        images: Shaped[Tensor, "B C height width 3"],
        image_mask: Bool[Tensor, "B C"] | None,
        rows: Int64[Tensor, " I"] | None = None,
    ) -> Float[Tensor, "B C P D"]:
        """Return image tokens; a masked image is not encoded, its tokens are zero.

        `rows` are the valid images as `valid_rows` counts them; without them a GPU has to be waited for.
        """
        flat = images.flatten(0, 1)
        if image_mask is None:
            return self.vision(flat).unflatten(0, images.shape[:2])
        rows = valid_rows(image_mask) if rows is None else rows
        encoded = self.vision(flat[rows])
        tokens = encoded.new_zeros(len(flat), *encoded.shape[1:])
        return tokens.index_copy(0, rows, encoded).unflatten(0, images.shape[:2])

    def embed_prefix(self, batch: Batch) -> tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"] | None]:
        """Return image tokens followed by prompt tokens, and which of them count (None: all of them)."""
        batch = batch.trim()
        images = self.encode_images(batch.images, batch.image_mask, batch.image_rows)
        prompt = self.embedding(batch.tokens).float() * math.sqrt(self.config.language_width)
        tokens = torch.cat([images.flatten(1, 2), prompt.to(images.dtype)], dim=1)
        if batch.image_mask is None and batch.token_mask is None:
            return tokens, None
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        image_tokens = images.shape[1] * images.shape[2]
        if batch.image_mask is not None:
            valid[:, :image_tokens] = batch.image_mask.repeat_interleave(images.shape[2], dim=1)
        if batch.token_mask is not None:
            valid[:, image_tokens:] = batch.token_mask
        return tokens, valid

    def read_prefix(
        self, batch: Batch, packing: Packing | None = None
    ) -> tuple[list[KeyValue], Bool[Tensor, "B L"] | None]:
        """Return keys and values of the prefix, computed or as the batch brings them, and which tokens count."""
        if batch.prefix is None:
            tokens, valid = self.embed_prefix(batch)
            return self.prefill(tokens, valid, packing), valid
        cache = [(layer[:, 0], layer[:, 1]) for layer in batch.prefix.unbind(dim=1)]
        if batch.token_mask is None:
            return cache, None
        image_tokens = batch.prefix.shape[4] - batch.tokens.shape[1]
        images = batch.token_mask.new_ones(len(batch.tokens), image_tokens)
        return cache, torch.cat([images, batch.token_mask], dim=1)

    def prefill(
        self, tokens: Float[Tensor, "B L D"], valid: Bool[Tensor, "B L"] | None, packing: Packing | None = None
    ) -> list[KeyValue]:
        """Fill the key/value cache: run the language model over the prefix. What does not count takes no position."""
        if valid is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[:2])
        else:
            positions = valid.long().cumsum(dim=1) - 1
        return self.language(tokens, positions, valid, packing)

    def embed_suffix(self, x_t: Float[Tensor, "B A X"]) -> Float[Tensor, "B A E"]:
        """Return one token per noisy action."""
        return self.action_in(x_t.float())

    def condition(self, time: Float[Tensor, "*B"]) -> Float[Tensor, "*B E"]:
        """Return what the flow time tells the expert's norms: one time for a sample, or one for each of its steps."""
        return F.silu(self.time_out(F.silu(self.time_in(flow.embed_time(time, self.config.expert_width)))))

    def velocity(
        self,
        x_t: Float[Tensor, "KB A X"],
        time: Float[Tensor, " KB"] | Float[Tensor, "KB A"],
        cache: list[KeyValue],
        valid: Bool[Tensor, "B L"] | None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "KB A X"]:
        """Return the velocity v_t at x_t, in float32. K consecutive rows of x_t may share one row of the cache."""
        return self.velocity_under(x_t, self.condition(time), cache, valid, packing)

    def velocity_under(
        self,
        x_t: Float[Tensor, "KB A X"],
        condition: Float[Tensor, "KB E"] | Float[Tensor, "KB A E"] | Modulations,
        cache: list[KeyValue],
        valid: Bool[Tensor, "B L"] | None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "KB A X"]:
        """Return v_t under what the flow time says, or under what that does to the expert's norms."""
        copies = len(x_t) // len(cache[0][0])
        if copies > 1:
            cache = [
                (key.repeat_interleave(copies, dim=0), value.repeat_interleave(copies, dim=0)) for key, value in cache
            ]
            valid = None if valid is None else valid.repeat_interleave(copies, dim=0)
        count, horizon, _ = x_t.shape
        steps = torch.arange(horizon, device=x_t.device)
        if valid is None:
            positions = (cache[0][0].shape[2] + steps).expand(count, horizon)
        else:
            positions = valid.sum(dim=1, keepdim=True) + steps
            valid = torch.cat([valid, valid.new_ones(count, horizon)], dim=1)
        if packing is not None:
            packing = packing._replace(counted=packing.counted * copies + count * horizon)
        suffix = self.embed_suffix(x_t).to(self.compute_dtype)
        hidden = self.expert(suffix, condition, positions, cache, valid, packing)
        return self.action_out(hidden.float())

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh weights for training from scratch, as openpi's JAX model does.

        Linear maps: normal with variance 1 / inputs; norms, biases and the adaptive norms' modulation: zero, so that
        every expert branch starts closed. Embedding and positions: normal with standard deviation 1/sqrt(width).
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(std=1 / math.sqrt(module.embedding_dim), generator=generator)
            elif isinstance(module, Linear):
                closed = name.endswith("modulation")
                std = 0.0 if closed else 1 / math.sqrt(module.in_features)
                module.weight.normal_(std=std, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        self.vision.position_embedding.normal_(std=1 / math.sqrt(self.config.vision_width), generator=generator)
