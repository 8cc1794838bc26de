"""One training step on shapes alone: the real network, loss, backward pass, clipping, optimizer and average.

All tensors are on `meta`; `live_memory.py` counts what would be alive on a GPU. The same builders are called as in
`train/loop.py`, except that there are no weights to read. PyTorch's fused AdamW refuses `meta`; it makes nothing but
its moments, so these are put there by hand. Compilation is left out: it only lowers the peak. Leaves out what the count
means for a GPU (`memory.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pi05.model.config import ModelConfig
from pi05.model.flow import reduce_loss
from pi05.model.pi05 import Pi05
from pi05.train.activations import apply_from_outside, layers_of, leaves_device
from pi05.train.cached_prefix import stack_prefix
from pi05.train.config import TrainConfig
from pi05.train.device.varlen import flash_varlen
from pi05.train.network import trainable
from pi05.train.optim.adamw import Ema, clip_gradients
from pi05.train.optim.low_memory import LowMemoryOptimizer, state_bytes
from pi05.train.optim.protocol import Optimizer
from pi05.train.optim.way import Way
from pi05.train.parallel.gathering import gathered_bytes, units_of
from pi05.train.parallel.placement import outline
from pi05.train.plan.counted_on import CountedOn, counted_on
from pi05.train.plan.live_memory import BLOCK, LiveStorage, fused_kernels
from pi05.train.plan.update_on_shapes import (
    META,
    bytes_of_update,
    optimizer_on_meta,
    plain_temporaries,
    read_back_bytes,
)
from pi05.types import Batch

WEIGHTS, GRADIENTS, OPTIMIZER, AVERAGE = "weights", "gradients", "optimizer", "average"
ACTIVATIONS, WORKSPACE = "activations", "workspace"


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What of a batch decides the memory of a step."""

    batch: int
    """Samples per forward pass."""
    cameras: int
    """Cameras that the policy sees."""
    prompt_tokens: int
    """Tokens of the batch's longest prompt."""


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """What was alive when most was, in bytes by purpose, and what the network is."""

    at_peak: Mapping[str, int]
    host: int
    """Bytes of moments and activations in host memory, in pages that cannot be moved (`pinned_bytes`)."""
    to_host: int
    """Bytes that go there in a step; as many come back."""
    largest_unit: int
    """Bytes of the layer (or the embedding) that is most when FSDP gathers it, the largest thing gathered at once."""
    trained: int
    """Number of trainable values."""
    parameters: int
    """Number of all values."""
    moved: int
    """Bytes that the optimizer reads and writes in a step, on the device."""
    moved_by: Mapping[Way, int] = field(default_factory=dict)
    """The same by each way that the low-memory update can take; empty where the optimizer is PyTorch's own."""
    update_workspace: int = 0
    """Bytes that this update needs for itself where it does not run as kernels of its own."""
    read_back: int = 0
    """Bytes that moments from host memory take on the device at once; 0 where they are there."""
    gathered_bytes: int
    """Bytes that FSDP gathers in one forward pass and its backward pass."""
    gradient_bytes: int
    """Bytes of all gradients."""


def measure_step(
    config: TrainConfig,
    sizes: ModelConfig,
    shapes: Shapes,
    buckets: bool = False,
    kernels: CountedOn | None = None,
) -> StepMemory:
    """Run a step on shapes and return what it needs. Raises ConfigError for settings that cannot be.

    With `buckets` gradients lie in DDP's, which are there from the first step to the last. `kernels` are those that
    the run counts on; None: as on any GPU from Ampere on.
    """
    kernels = kernels or counted_on(config, sizes)
    model, parameters = build_on_meta(config, sizes)
    count_on_packing(model, kernels)
    tracker = LiveStorage()
    tracker.adopt(model.parameters(), WEIGHTS)
    standing = [torch.empty_like(value) for value in parameters.values()] if buckets else []
    tracker.adopt(standing, GRADIENTS)
    for parameter in parameters.values():
        parameter.register_post_accumulate_grad_hook(lambda each: _adopt_gradient(tracker, each, buckets))
    optimizer = optimizer_on_meta(config, parameters, tracker, kernels.update)
    moments = optimizer.make_moments()
    of_moments = [part for parts in moments.values() for part in parts]
    if config.optimizer_offload:
        tracker.ignore(of_moments)
    else:
        tracker.adopt(of_moments, OPTIMIZER)
    ema = Ema(parameters, config.ema.decay) if config.ema.enable else None
    if ema is not None:
        tracker.adopt(ema.tensors().values(), AVERAGE)
    moved = _apply_outside(model, config)
    ways = get_args(Way) if config.own_optimizer else ()
    largest = max(value.numel() for value in parameters.values())
    with tracker, fused_kernels():
        _run(config, model, optimizer, ema, tracker, shapes, sizes)
    held = sum(map(_bytes, moments.values()))
    moments_away = held if config.optimizer_offload else 0
    activations_away = sum(moved) // _passes(config)
    pinned = sum(map(pinned_bytes, [part.nbytes for part in of_moments] if config.optimizer_offload else []))
    pinned += sum(map(pinned_bytes, moved)) // _passes(config)
    units = units_of(model)
    return StepMemory(
        at_peak=dict(tracker.at_peak),
        host=pinned,
        to_host=moments_away + activations_away * config.gradient_accumulation_steps,
        largest_unit=max(unit.size for unit in units if unit.module is not model),
        trained=sum(value.numel() for value in parameters.values()),
        parameters=sum(value.numel() for value in model.parameters()),
        moved=bytes_of_update(config, parameters.values(), kernels.update),
        moved_by={way: bytes_of_update(config, parameters.values(), way) for way in ways},
        update_workspace=plain_temporaries(config, largest) if ways else 0,
        read_back=read_back_bytes(config, largest) if ways else 0,
        gathered_bytes=gathered_bytes(units),
        gradient_bytes=_bytes(parameters.values()),
    )


def count_on_packing(model: Pi05, kernels: CountedOn) -> None:
    """Let the network pack the keys of padded batches, as a run does once its probe has passed."""
    if kernels.packed:
        model.varlen = flash_varlen()


def least_held_bytes(config: TrainConfig, sizes: ModelConfig) -> int:
    """Return what is held on the device all the time, rounding to blocks left out: weights, moments, average."""
    model, parameters = build_on_meta(config, sizes)
    moments = (
        0
        if config.optimizer_offload
        else sum(state_bytes(value.numel(), config.optimizer_state) for value in parameters.values())
    )
    average = 4 * sum(value.numel() for value in parameters.values()) if config.ema.enable else 0
    return sum(value.nbytes for value in model.parameters()) + moments + average


def build_on_meta(config: TrainConfig, sizes: ModelConfig) -> tuple[Pi05, dict[str, nn.Parameter]]:
    """Return the network as training holds it, and its trainable parameters."""
    network = outline(config, sizes)
    return network.model, trainable(network, config.part)


def _apply_outside(model: Pi05, config: TrainConfig) -> list[int]:
    """Recompute as in training; return a list that collects the bytes of activations that wait in host memory."""
    apply_from_outside(
        model,
        compile_layers=False,
        recompute_activations=config.recomputed,
        dropout=config.draws_dropout,
    )
    moved: list[int] = []
    if config.activation_offload:
        for layer in layers_of(model):
            layer.forward = partial(_away, layer.forward, moved)
    return moved


def _away(forward: Callable[..., Any], moved: list[int], *arguments: Any, **options: Any) -> Any:
    """Run `forward` as `activations.offloaded` does, with nothing in the place of host memory."""

    def pack(tensor: Tensor) -> Tensor | tuple[torch.Size, torch.dtype]:
        if not leaves_device(tensor):
            return tensor
        moved.append(tensor.nbytes)
        return tensor.shape, tensor.dtype

    def unpack(packed: Any) -> Tensor:
        return packed if isinstance(packed, Tensor) else torch.empty(packed[0], dtype=packed[1], device=META)

    with saved_tensors_hooks(pack, unpack):
        return forward(*arguments, **options)


def pinned_bytes(count: int) -> int:
    """Return what page-locked memory takes for a block: PyTorch's allocator for it deals in powers of two.

    `PowerOf2Ceil` in `ATen/core/CachingHostAllocator.h`.
    """
    return 1 << (count - 1).bit_length() if count > 0 else 0


def _adopt_gradient(tracker: LiveStorage, parameter: nn.Parameter, in_bucket: bool) -> None:
    if parameter.grad is None:
        return
    if in_bucket:  # what autograd made is copied there, and freed
        tracker.release([parameter.grad])
    else:
        tracker.adopt([parameter.grad], GRADIENTS)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(-(-tensor.nbytes // BLOCK) * BLOCK for tensor in tensors)


def _run(
    config: TrainConfig,
    model: Pi05,
    optimizer: Optimizer,
    ema: Ema | None,
    tracker: LiveStorage,
    shapes: Shapes,
    sizes: ModelConfig,
) -> None:
    """Take the step."""
    tracker.forget_peak()
    optimizer.begin(0)
    if isinstance(optimizer, LowMemoryOptimizer) and optimizer.release:
        optimizer.start_from_norm(torch.zeros((), device=META))
    if config.cache_prefix:  # before the first step; a run that is continued has its moments then
        with tracker.making(WORKSPACE), torch.no_grad():
            stack_prefix(model.read_prefix(make_batch(shapes, sizes))[0])
    for _ in range(_passes(config)):
        with tracker.making(ACTIVATIONS):
            batch = make_batch(shapes, sizes, model.compute_dtype if config.cache_prefix else None)
            loss, kept = take_loss(config, model, batch, shapes, sizes)
        with tracker.making(WORKSPACE):
            loss.backward()
        del loss, kept, batch
    with tracker.making(WORKSPACE), torch.no_grad():
        if config.own_optimizer:
            optimizer.apply(0)
        else:
            clip_gradients(optimizer.parameters.values(), config.policy.optimizer_grad_clip_norm)
        if ema is not None:
            ema.update()


def take_loss(
    config: TrainConfig, model: Pi05, batch: Batch, shapes: Shapes, sizes: ModelConfig
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the loss of a forward pass, and what a step keeps beside it until its backward pass is over."""
    draws = (shapes.batch * config.flow_samples, sizes.horizon, sizes.action_dim)
    noise, time = torch.empty(draws, device=META), torch.empty(draws[:1], device=META)
    delay = torch.empty(shapes.batch, dtype=torch.int64, device=META) if config.rtc_max_delay else None
    losses = model.loss(batch, noise=noise, time=time, flow_samples=config.flow_samples, delay=delay)
    total, count = reduce_loss(losses, batch.action_mask, sizes.action_dim, config.loss, delay)
    return total / count, (losses, total, noise, time)


def _passes(config: TrainConfig) -> int:
    """Return the passes that are run: a second one finds gradients of the first, and no later one is larger."""
    return min(2, config.gradient_accumulation_steps)


def make_batch(shapes: Shapes, sizes: ModelConfig, cached: torch.dtype | None = None) -> Batch:
    """Return a batch; with `cached` it brings keys and values in that precision in the place of pictures.

    It has a mask, in which all tokens count: that is most for packed keys.
    """
    count, side = shapes.batch, sizes.image_size
    length = shapes.cameras * sizes.patches_per_image + shapes.prompt_tokens
    prefix = (count, sizes.depth, 2, sizes.num_kv_heads, length, sizes.head_dim)
    with META:
        return Batch(
            images=torch.empty(count, 0 if cached else shapes.cameras, side, side, 3, dtype=torch.uint8),
            image_mask=None,
            tokens=torch.empty(count, shapes.prompt_tokens, dtype=torch.int64),
            token_mask=torch.empty(count, shapes.prompt_tokens, dtype=torch.bool),
            actions=torch.empty(count, sizes.horizon, sizes.action_dim),
            action_mask=torch.empty(count, sizes.horizon, dtype=torch.bool),
            trimmed=True,
            counted_tokens=count * shapes.prompt_tokens,
            prefix=None if cached is None else torch.empty(prefix, dtype=cached),
        )
