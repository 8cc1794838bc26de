"""What is applied to the layers from outside: compilation, recomputed activations, activations in host memory.

A layer's `forward` is replaced, its parameters and their names are not. Layers of one kind share their compiled code:
Dynamo keeps it per function, not per module. What a backward pass needs is kept or recomputed, layer by layer
(activation checkpointing). Between the two lies `selective`: the results of the large products and of attention are
kept. The cheap rest (norms, rotation, GELU, casts, sums) is computed again. Leaves out how much memory that takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from pi05.model.pi05 import Pi05
from pi05.train.memory_config import Degree

Forward = Callable[..., Any]

RECOMPILE_LIMIT = 64
"""Versions of one layer's code before Dynamo gives up. Of the language layer there are at most 16: with and without
gradient, mask, changing length, and as the last one."""

PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
ATTENTION = tuple(
    getattr(torch.ops.aten, name).default
    for name in (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
    )
)
PACKED_ATTENTION = "torch_attn::_varlen_attn"
"""Attention over packed keys, by name: it exists from PyTorch 2.10 on, once its module is imported."""
WIDEST = 16
"""A product that widens its input by more is that of a low-rank adapter: cheap to repeat, expensive to keep."""


def layers_of(model: Pi05) -> list[nn.Module]:
    """Return the repeated layers, the units of recomputation and of compilation."""
    return [layer for tower in towers_of(model) for layer in tower]


def towers_of(model: Pi05) -> tuple[list[nn.Module], ...]:
    """Return the layers of vision, language and expert."""
    return list(model.vision.blocks), list(model.language.layers), list(model.expert.layers)


def apply_from_outside(
    model: Pi05,
    *,
    compile_layers: bool,
    recompute_activations: Degree,
    offload_activations: bool = False,
    dropout: bool = False,
    backend: str = "inductor",
) -> None:
    """Compile each layer, and recompute its activations in the backward pass, as asked; names stay what they are.

    With `offload_activations` what a layer keeps for the backward pass waits in host memory. With dropout the second
    computation has to draw what the first one drew.
    """
    if compile_layers:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
    for tower in towers_of(model):
        recomputed_layers = chosen_layers(len(tower), recompute_activations)
        for layer, chosen in zip(tower, recomputed_layers, strict=True):
            forward: Forward = layer.forward
            if chosen:
                trained = any(parameter.requires_grad for parameter in layer.parameters())
                forward = partial(recomputed, forward, recompute_activations == "selective", dropout, trained)
            if compile_layers:
                forward = torch.compile(forward, backend=backend)
            if offload_activations:
                forward = partial(offloaded, forward)
            layer.forward = forward


def chosen_layers(count: int, degree: Degree) -> list[bool]:
    """Return which of `count` layers are recomputed, spread evenly."""
    share = 1.0 if degree == "selective" else float(degree)
    return [math.floor((index + 1) * share) > math.floor(index * share) for index in range(count)]


def recomputed(forward: Forward, selective: bool, dropout: bool, trained: bool, *arguments: Any, **options: Any) -> Any:
    """Run `forward`; in training keep its inputs only (or what `keep` says), and run it again in the backward pass.

    A frozen layer behind frozen ones has no backward pass. Torch's compiler refuses to recompute attention in it.
    """
    if not torch.is_grad_enabled() or not (trained or any_needs_gradient(arguments)):
        return forward(*arguments, **options)
    kept: dict[str, Any] = {"context_fn": partial(create_selective_checkpoint_contexts, keep)} if selective else {}
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=dropout, **kept, **options)


def any_needs_gradient(arguments: tuple[Any, ...]) -> bool:
    """Tell whether a tensor among the arguments, or in a tuple of them, needs a gradient."""
    for each in arguments:
        if isinstance(each, tuple):
            if any_needs_gradient(each):
                return True
        elif isinstance(each, Tensor) and each.requires_grad:
            return True
    return False


def keep(context: Any, operation: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
    """Say whether the result of an operation is kept for the backward pass.

    A product that narrows is not: it ends a branch (the MLP's way back), and recomputation stops before it, or it is
    small (keys and values).
    """
    if operation in ATTENTION or operation.name() == PACKED_ATTENTION:
        return CheckpointPolicy.MUST_SAVE
    if operation in PRODUCTS:
        inputs, outputs = arguments[-1].shape
        if inputs <= outputs <= WIDEST * inputs:
            return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def offloaded(forward: Forward, *arguments: Any, **options: Any) -> Any:
    """Run `forward` with what the backward pass needs of it in host memory."""
    with saved_tensors_hooks(to_host, to_device):
        return forward(*arguments, **options)


def to_host(tensor: Tensor) -> tuple[torch.device, Tensor]:
    """Return a copy in host memory. From a GPU it runs behind the program, in order with its other work."""
    if not leaves_device(tensor):
        return tensor.device, tensor
    host = torch.empty_like(tensor, device="cpu", pin_memory=tensor.device.type == "cuda")
    return tensor.device, host.copy_(tensor, non_blocking=True)


def leaves_device(tensor: Tensor) -> bool:
    """Tell whether a tensor that the backward pass needs waits in host memory; the plan asks it, too.

    A parameter stays on the device anyway. Of a part of another tensor, such as the bias that all layers read, a copy
    would have other rows than attention's kernels want, and free nothing.
    """
    return not isinstance(tensor, nn.Parameter) and is_dense(tensor)


def is_dense(tensor: Tensor) -> bool:
    """Tell whether a tensor fills its memory without gaps, in whatever order of its dimensions."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True


def to_device(packed: tuple[torch.device, Tensor]) -> Tensor:
    """Return the tensor on its device again."""
    device, tensor = packed
    return tensor.to(device, non_blocking=True)
