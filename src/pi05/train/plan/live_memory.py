"""Live memory of tensors, operation by operation, by what the memory is for; and what CUDA's fused kernels keep.

Runs on `meta` tensors, which have shapes and no values: then the count is that of a GPU that is not there. A storage
counts from the operation that makes it until nothing refers to it, in blocks of 512 bytes as PyTorch's CUDA allocator
deals memory out (`c10/cuda/CUDACachingAllocator.h`, kMinBlockSize). Two operations would be taken apart on `meta` where
CUDA has one kernel; `fused_kernels` stands in for those. Leaves out what is run (`step_on_shapes.py`).
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

BLOCK = 512
"""Bytes; the CUDA allocator rounds every request up to a multiple of it."""

ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_efficient_attention_backward.default
PACKED, PACKED_BACKWARD = "torch_attn::_varlen_attn", "torch_attn::_varlen_attn_backward"
"""PyTorch's operations for packed keys, by name: they are there once its module for them is loaded."""
ROWS_OF_A_BLOCK = 128
"""Queries in a block of flash attention's backward pass."""


class LiveStorage(TorchDispatchMode):
    """Counts the bytes of all live storages on one kind of device, and remembers the moment with most of them."""

    def __init__(self, device: str = "meta", block: int = BLOCK) -> None:
        super().__init__()
        self.device = device
        self.block = block
        self.purpose = "activations"
        """What storages that are made from now on are for."""
        self.live: Counter[str] = Counter()
        """Bytes that are alive, by purpose."""
        self.total = 0
        self.peak = 0
        self.at_peak: Counter[str] = Counter()
        """Bytes by purpose when most was alive."""
        self._known: dict[int, tuple[weakref.ref[Any], str, int]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, then count the storages that it made."""
        with self.extra(_kernels_own(function, arguments)):
            result = function(*arguments, **(options or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return result

    def adopt(self, tensors: Iterable[Tensor], purpose: str) -> None:
        """Count these tensors for `purpose`, whatever they counted for before."""
        for tensor in tensors:
            key = self._count(tensor)
            if key is None:
                continue
            reference, old, size = self._known[key]
            self.live[old] -= size
            self.live[purpose] += size
            self._known[key] = (reference, purpose, size)

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Never count these tensors: they stand for memory that is elsewhere."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._known[storage._cdata] = (weakref.ref(storage, self._freed(storage._cdata)), "", 0)

    def release(self, tensors: Iterable[Tensor]) -> None:
        """Take these tensors for freed from here on."""
        for tensor in tensors:
            key = self._count(tensor)
            if key is not None:
                reference, purpose, size = self._known[key]
                self._known[key] = (reference, "", 0)
                self._add(purpose, -size)

    @contextmanager
    def making(self, purpose: str) -> Iterator[None]:
        """Count what is made inside for `purpose`."""
        before, self.purpose = self.purpose, purpose
        try:
            yield
        finally:
            self.purpose = before

    @contextmanager
    def extra(self, size: int, purpose: str = "workspace") -> Iterator[None]:
        """Count memory that a kernel holds while it runs."""
        self._add(purpose, size)
        try:
            yield
        finally:
            self._add(purpose, -size)

    def forget_peak(self) -> None:
        """Look for the peak from here on."""
        self.peak, self.at_peak = self.total, Counter(self.live)

    @contextmanager
    def growth(self) -> Iterator[Callable[[], int]]:
        """Yield a function that afterwards tells by how much more was alive inside than before."""
        before, peak, at_peak = self.total, self.peak, self.at_peak
        self.forget_peak()
        grown: list[int] = []
        try:
            yield lambda: grown[0]
        finally:
            grown.append(self.peak - before)
            if self.peak < peak:
                self.peak, self.at_peak = peak, at_peak

    def _count(self, tensor: Tensor) -> int | None:
        if tensor.device.type != self.device:
            return None
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            size = -(-storage.nbytes() // self.block) * self.block
            self._known[key] = (weakref.ref(storage, self._freed(key)), self.purpose, size)
            self._add(self.purpose, size)
        return key

    def _freed(self, key: int) -> Callable[[Any], None]:
        return partial(_forget, weakref.ref(self), self._known, key)

    def _add(self, purpose: str, size: int) -> None:
        self.live[purpose] += size
        self.total += size
        if self.total > self.peak:
            self.peak, self.at_peak = self.total, Counter(self.live)


def _kernels_own(function: Any, arguments: Sequence[Any]) -> int:
    """Return the bytes that a kernel holds while it runs, beside what it is given and what it returns."""
    packed = function.name() == PACKED_BACKWARD
    if function is not ATTENTION_BACKWARD and not packed:
        return 0
    query, key = arguments[1:3]
    sums = 4 * query.numel()  # the queries' gradient is added up in float32
    if not packed:
        return sums
    # `mha_varlen_bwd` of flash_api.cpp has room for a block of rows more in each sample.
    samples = arguments[6].shape[0] - 1
    sums += 4 * ROWS_OF_A_BLOCK * samples * query[0].numel()
    if query.shape[1] == key.shape[1]:
        return sums
    # Flash has a gradient of keys and values for each query head that shares them, and adds those up at the end.
    return sums + 2 * query.shape[1] // key.shape[1] * key.nbytes


def _forget(me: weakref.ref[LiveStorage], known: dict[int, Any], key: int, _: Any) -> None:
    _, purpose, size = known.pop(key)
    tracker = me()
    if tracker is not None:
        tracker._add(purpose, -size)


@contextmanager
def fused_kernels(norm: bool = True) -> Iterator[None]:
    """Give attention and, with `norm`, RMS norm on `meta` the memory that their CUDA kernels take.

    Attention (the flash and the memory-efficient kernel) keeps its inputs, its output and one number per query, never a
    score matrix; RMS norm (fused in PyTorch from 2.9) keeps its input and one number per row.
    """
    originals = F.scaled_dot_product_attention, F.rms_norm
    setattr(F, "scaled_dot_product_attention", _attend)  # noqa: B010
    if norm:
        setattr(F, "rms_norm", _normalize)  # noqa: B010
    try:
        yield
    finally:
        F.scaled_dot_product_attention, F.rms_norm = originals


def _attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    bias = None if attn_mask is None else attn_mask.expand(*query.shape[:3], key.shape[2])
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    result: Tensor = kernel(query, key, value, bias, torch.is_grad_enabled())[0]
    return result


def _normalize(x: Tensor, shape: Sequence[int], weight: None = None, eps: float | None = None) -> Tensor:
    result: Tensor = _RmsNorm.apply(x, len(shape))
    return result


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, axes: int) -> Tensor:
        context.save_for_backward(x, x.new_empty(x.shape[:-axes]))
        return torch.empty_like(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        return torch.empty_like(context.saved_tensors[0]), None
