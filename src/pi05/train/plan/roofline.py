"""What bounds a training step on a GPU: products, attention, the rest, the update. A prediction, not a measurement.

The real network, loss and backward pass run on shapes (`step_on_shapes.py`); each operation's arithmetic and the bytes
that it reads and writes are counted. On a GPU an operation takes as long as the slower of both at the rates below, and
no less than a launch. What compilation saves follows from it (`compilation.py`). Left out: loading of data, gaps
between kernels.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pi05.model.config import ModelConfig
from pi05.train.activations import apply_from_outside
from pi05.train.config import TrainConfig
from pi05.train.device.kernels import Kernel
from pi05.train.plan.counted_on import CountedOn, counted_on, masked_kernel
from pi05.train.plan.gpus import Gpu
from pi05.train.plan.live_memory import PACKED, PACKED_BACKWARD, fused_kernels
from pi05.train.plan.memory import what_shapes_depend_on
from pi05.train.plan.step_on_shapes import Shapes, build_on_meta, count_on_packing, make_batch, take_loss
from pi05.train.plan.update_on_shapes import bytes_of_clipping, bytes_of_update

PRODUCTS_SHARE = 0.8
"""Share of the maker's bfloat16 peak that large products reach. Assumption: 790 of 989 TFLOP/s on an H200."""
FLOAT32_SHARE = 1 / 16
"""Rate of float32 products (without TF32) over the bfloat16 peak. Makers' figures: 67 of 989 on an H200."""
ATTENTION_SHARE: dict[Kernel, float] = {"flash": 0.35, "cudnn": 0.35, "efficient": 0.12}
"""Share of the peak in attention, forward and backward together, at head widths of 72 and 256, by kernel. Assumptions;
cuDNN's is taken for no faster than flash."""
FLOAT32_ATTENTION = "float32 attention"
"""Of --precision=float32, masked or not: the memory-efficient kernel, taken for as fast as float32 products."""
BANDWIDTH_SHARE = 0.85
"""Share of the memory's peak that kernels reach. Assumption."""
FUSED_SHARE = 1 / 3
"""What compilation leaves of the traffic and launches of norms, rotation, GELU, casts and sums. Assumption."""
LAUNCH = 4e-6
"""Seconds that a kernel takes at least. Assumption."""
FUSED = ("weights to bfloat16", "other")
"""Kinds of operations that compilation joins."""
WITHOUT_MASK = ("attention", "packed attention")
ATTENTIONS = (*WITHOUT_MASK, "masked attention", FLOAT32_ATTENTION)
KINDS = ("products", "float32 products", *ATTENTIONS, *FUSED)

aten = torch.ops.aten
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default)
ATTENTION = (
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_efficient_attention_backward.default,
)
PACKED_ATTENTION = (PACKED, PACKED_BACKWARD)


@dataclass
class Part:
    """What operations of a kind do."""

    kernels: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operations of a step, on whatever GPU: forward and backward passes, then the update."""

    done: tuple[tuple[str, float, float], ...]
    """Of each operation its kind, its arithmetic (FLOP) and the bytes that it reads and writes."""
    passes: int
    """Times that these are done in a step."""
    update_bytes: int
    """What clipping and the update read and write."""
    head_dim: int
    """Of the attentions that padded prompts concern."""

    def parts(self, gpu: Gpu, over: int = 1) -> dict[str, Part]:
        """Return what each kind of operations takes on a GPU whose arithmetic is known, and the update.

        `over` is the number of GPUs that parameters and moments are divided over.
        """
        peak, bandwidth = gpu.bf16_tflops * 1e12, gpu.bandwidth_gbs * 1e9 * BANDWIDTH_SHARE
        rates = {"products": PRODUCTS_SHARE * peak, "float32 products": FLOAT32_SHARE * peak}
        rates |= dict.fromkeys(WITHOUT_MASK, ATTENTION_SHARE["flash"] * peak)
        rates |= {"masked attention": self._masked_share(gpu) * peak, FLOAT32_ATTENTION: FLOAT32_SHARE * peak}
        parts = {kind: Part() for kind in KINDS}
        for kind, flops, size in self.done:
            arithmetic = flops / rates[kind] if kind in rates else 0.0
            traffic = 0.0 if kind in ATTENTIONS else size / bandwidth
            part = parts[kind]
            part.kernels += self.passes
            part.flops += self.passes * flops
            part.bytes += self.passes * size
            part.seconds += self.passes * max(arithmetic, traffic, LAUNCH)
        size = self.update_bytes / over
        return {**parts, "clipping and update": Part(bytes=size, seconds=size / bandwidth)}

    def seconds_for_masks(self, gpu: Gpu) -> float:
        """Return what a step takes longer where packed keys are refused, and keys masked."""
        slower = 1 / self._masked_share(gpu) - 1 / ATTENTION_SHARE["flash"]
        return self.parts(gpu)["packed attention"].flops * slower / (gpu.bf16_tflops * 1e12)

    def _masked_share(self, gpu: Gpu) -> float:
        return ATTENTION_SHARE[masked_kernel(gpu, self.head_dim)]

    def seconds(self, gpu: Gpu, *, compiled: bool = False, over: int = 1) -> float:
        """Return what a step takes on a GPU whose arithmetic is known, its layers compiled or not; `over` as above."""
        parts = self.parts(gpu, over)
        saved = (1 - FUSED_SHARE) * sum(parts[kind].seconds for kind in FUSED) if compiled else 0.0
        return sum(part.seconds for part in parts.values()) - saved


class _Counter(TorchDispatchMode):
    """Lists what the operations inside do, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, float, float]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and note it."""
        result = func(*args, **(kwargs or {}))
        given, made = _tensors_of(args), _tensors_of((result,))
        size = float(sum(each.numel() * each.element_size() for each in (*given, *made)))
        if func in PRODUCTS:
            left, right = args[-2:]
            kind = "products" if left.dtype == torch.bfloat16 else "float32 products"
            self.done.append((kind, 2.0 * left.numel() * right.shape[-1], size))
        elif func.name() in PACKED_ATTENTION:
            backward = func.name() == PACKED_BACKWARD
            query, key, _ = args[1:4] if backward else args[:3]
            starts = args[6] if backward else args[3]
            keys = key.shape[0] / (starts.shape[0] - 1)  # of a sample, on average; all have as many queries
            self.done.append(("packed attention", (10.0 if backward else 4.0) * query.numel() * keys, size))
        elif func in ATTENTION:
            backward = func is ATTENTION[1]
            query, key, _, bias = args[1:5] if backward else args[:4]
            flops = (10.0 if backward else 4.0) * query.numel() * key.shape[2]
            kind = "attention" if bias is None else "masked attention"
            self.done.append((kind if query.dtype != torch.float32 else FLOAT32_ATTENTION, flops, size))
        elif not (func.is_view or _shares_memory(given, made)):
            weight = func is aten._to_copy.default and isinstance(args[0], torch.nn.Parameter)
            self.done.append(("weights to bfloat16" if weight else "other", 0.0, size))
        return result


def count_operations(
    config: TrainConfig,
    sizes: ModelConfig,
    shapes: Shapes,
    *,
    padded: bool = True,
    kernels: CountedOn | None = None,
) -> Operations:
    """Run one forward and backward pass on shapes, and count. Without `padded` all prompts are of one length.

    `kernels` are those that the run counts on; None: as on any GPU from Ampere on.
    """
    return _counted(what_shapes_depend_on(config), sizes, shapes, padded, kernels or counted_on(config, sizes))


@functools.lru_cache(maxsize=16)
def _counted(text: str, sizes: ModelConfig, shapes: Shapes, padded: bool, kernels: CountedOn) -> Operations:
    config = TrainConfig.from_dict(json.loads(text))
    model, parameters = build_on_meta(config, sizes)
    apply_from_outside(
        model, compile_layers=False, recompute_activations=config.recomputed, dropout=config.draws_dropout
    )
    batch = make_batch(shapes, sizes, model.compute_dtype if config.cache_prefix else None)
    count_on_packing(model, kernels)
    if not padded:
        batch = replace(batch, token_mask=None)
    counter = _Counter()
    with counter, fused_kernels():
        loss, _ = take_loss(config, model, batch, shapes, sizes)
        loss.backward()
    moving = [each for each in parameters.values() if each.grad is not None]
    return Operations(
        done=tuple(counter.done),
        passes=config.gradient_accumulation_steps,
        update_bytes=bytes_of_update(config, moving, kernels.update) + bytes_of_clipping(moving, kernels.update),
        head_dim=sizes.head_dim,
    )


def _tensors_of(values: Any) -> list[Tensor]:
    """Return the tensors among nested arguments."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors_of(value)
    return found


def _shares_memory(given: list[Tensor], made: list[Tensor]) -> bool:
    """Tell whether an operation returns what it was given, as views and `detach` do; in-place work has two inputs."""
    return (
        len(given) == 1 == len(made)
        and given[0].untyped_storage()._cdata == made[0].untyped_storage()._cdata
        and given[0].dtype == made[0].dtype
    )
