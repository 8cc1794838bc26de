"""CUDA tensors without a GPU: shapes, types and devices are those of a GPU, values there are none.

Inside `fake_cuda` the real code takes its CUDA branches on PyTorch's fake tensors. What would fail on a GPU fails here:
an operation over tensors of both devices, and whatever would make the program wait for the device, be it a value that
is read back, a shape that follows from values, a copy that is not asynchronous, or an event with nothing behind it.
Attention goes to the kernel that PyTorch would choose (`aten/src/ATen/native/transformers/cuda/sdp_utils.cpp`), or to
an error where that is the one that builds a matrix of scores. Leaves out what the kernels compute, and compilation:
what would be compiled runs as it is.

A build of PyTorch for CPUs lacks two things that autograd asks for: the guard that switches devices and streams, and
the word that CUDA is there. Both are put in place for the duration of the block; `torch/csrc` has a guard that does
nothing, for the same purpose, but only hands it to builds for CUDA.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pi05.model import quantize
from pi05.train.device.kernels import CUDNN_OF_WHEELS, flash_takes, prefers_cudnn
from pi05.train.optim.minifloat import _table_of
from pi05.train.optim.portion import compiled_update
from pi05.types import Batch

aten = torch.ops.aten
DEVICE = torch.device("cuda", 0)
_VIRTUAL = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
_NO, _YES = _VIRTUAL(lambda _: False), _VIRTUAL(lambda _: True)
_CUDA = 1
"""Number of the device type in `c10/core/DeviceType.h`."""
WORTH_A_STEP = 100
"""Operations that keep a GPU busy while the program waits for what was queued before them; a small step has more."""
_IS_BUILT, _HAS_CONTEXT = 2, 4
"""Places in the table of virtual functions of `ATen/detail/AcceleratorHooksInterface.h`, after two destructors."""


@dataclass(frozen=True)
class Operation:
    """One operation that ran: its name, and the types of the floating-point tensors that went in and came out."""

    name: str
    inputs: tuple[torch.dtype, ...]
    outputs: tuple[torch.dtype, ...]
    shapes: tuple[tuple[int, ...], ...]


class WouldWait(AssertionError):
    """The program would wait for the GPU here."""


@dataclass
class FakeCuda:
    """What a block on fake CUDA tensors has done so far."""

    mode: FakeTensorMode
    capability: tuple[int, int]
    cudnn: int | None
    """Version of cuDNN; None: switched off."""
    operations: list[Operation] = field(default_factory=list)
    kernels: Counter[str] = field(default_factory=Counter)
    """Kernels of attention that were chosen: flash, efficient or cudnn."""
    arriving: list[tuple[Tensor, int]] = field(default_factory=list)
    """Host memory that copies go to which nobody waits for, and how many operations had run before each."""
    arrived: int = 0
    """Operations that the program knows to be done, since it has waited for an event behind them."""

    def batch(self, batch: Batch) -> Batch:
        """Return a batch of real tensors as fake ones, copied to the device as the loop does."""
        return self.pinned(batch).to(DEVICE, non_blocking=True)

    def pinned(self, batch: Batch) -> Batch:
        """Return a batch of real tensors as fake ones in page-locked memory."""
        faked = {
            one.name: self.mode.from_tensor(value)
            for one in fields(batch)
            if isinstance(value := getattr(batch, one.name), Tensor)
        }
        return replace(batch, **faked).pin_memory()

    def module(self, outline: nn.Module) -> nn.Module:
        """Give a module on `meta` fake parameters on the device; return it."""
        for module in outline.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    memory = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
                    module._parameters[name] = nn.Parameter(memory, requires_grad=value.requires_grad)
        return outline

    def watch(self) -> TorchDispatchMode:
        """Return a context that notes operations, and in which nothing may wait for the device."""
        return _Watch(self)


@contextmanager
def fake_cuda(capability: tuple[int, int] = (9, 0), cudnn: int | None = CUDNN_OF_WHEELS) -> Iterator[FakeCuda]:
    """Run a block on fake tensors, with CUDA pretended; `capability` is that of the GPU (9, 0: H100, H200).

    `cudnn` is the version of cuDNN; None where its attention is switched off.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=False)
    found = FakeCuda(mode, capability, cudnn)
    with ExitStack() as stack:
        if torch.version.cuda is None:
            stack.enter_context(_pretended_build())
        for patch in (
            mock.patch.object(torch, "Generator", _generator_for),
            mock.patch.object(Tensor, "pin_memory", lambda tensor: tensor),
            mock.patch.object(torch.cuda, "Event", partial(_Event, found)),
            mock.patch.object(torch, "compile", lambda function, **options: function),  # the program, not its compiler
            mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", _Attention(found)),
        ):
            stack.enter_context(patch)
        for forget in (_table_of.cache_clear, quantize.BYTE_VALUES.clear, compiled_update.cache_clear):
            forget()
            stack.callback(forget)  # fake tensors, and what is not compiled, belong to one block
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(mode)
        yield found


def _generator_for(device: torch.device | str = "cpu") -> torch._C.Generator:
    """Return a generator for any device: a build for CPUs has none of CUDA's."""
    return torch._C.Generator("cpu")


@contextmanager
def _pretended_build() -> Iterator[None]:
    """Let a build for CPUs say that CUDA is built in, and give it the guard that does nothing."""
    folder = Path(torch.__file__).parent / "lib"
    guards = (ctypes.c_void_p * 24).in_dll(
        ctypes.CDLL(str(folder / "libc10.so")), "_ZN3c104impl26device_guard_impl_registryE"
    )
    hooks_of = ctypes.CDLL(str(folder / "libtorch_cpu.so"))["_ZN2at6detail12getCUDAHooksEv"]
    hooks_of.restype = ctypes.c_void_p
    no, yes = (ctypes.cast(function, ctypes.c_void_p).value for function in (_NO, _YES))
    # PyTorch puts its idle guard where a guard of CUDA is that counts no devices: this object answers 0 to everything.
    table = (ctypes.c_void_p * 40)(*[no] * 40)
    deviceless = (ctypes.c_void_p * 1)(ctypes.addressof(table))
    hooks = ctypes.c_void_p.from_address(hooks_of())
    original, length = hooks.value, 64
    assert original is not None
    pretending = (ctypes.c_void_p * length)(*(ctypes.c_void_p * length).from_address(original))
    pretending[_IS_BUILT], pretending[_HAS_CONTEXT] = yes, no
    guard = guards[_CUDA]
    try:
        guards[_CUDA] = ctypes.addressof(deviceless)
        torch._C._ensureCUDADeviceGuardSet()
        hooks.value = ctypes.addressof(pretending)
        yield
    finally:
        hooks.value = original
        guards[_CUDA] = guard


class _Event:
    """In the place of `torch.cuda.Event`: a place in the queue of operations that the program may wait for.

    To wait is harmless while the GPU has other work behind that place.
    """

    def __init__(self, found: FakeCuda) -> None:
        self.found, self.place = found, 0

    def record(self) -> None:
        """Stand behind all operations so far."""
        self.place = len(self.found.operations)

    def synchronize(self) -> None:
        """Wait for them. Raises WouldWait where the GPU would have nothing more to do."""
        behind = len(self.found.operations) - self.place
        if behind < WORTH_A_STEP:
            raise WouldWait(f"an event with {behind} operations behind it")
        self.found.arrived = max(self.found.arrived, self.place)


class _Watch(TorchDispatchMode):
    """Notes operations; raises WouldWait at copies between the devices that the program would wait for."""

    def __init__(self, found: FakeCuda) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and look at it."""
        options = dict(kwargs or {})
        if func is aten._local_scalar_dense.default and (copied := self._copied(args[0])) is not None:
            if copied >= self.found.arrived:
                raise WouldWait("a value is read that may not have arrived yet")
            return 1.0  # what it is, nobody knows here
        result = func(*args, **options)
        if func.namespace == "prim":  # a question about a tensor, not work
            return result
        if func is aten.copy_.default and _device(args[0]) == "cpu" and _device(args[1]) == "cuda":
            self.found.arriving.append((args[0], len(self.found.operations)))
        given, made = _tensors(args), _tensors((result,))
        devices = {_device(tensor) for tensor in (*given, *made) if tensor.dim() or len(made) == 1}
        crosses = devices == {"cpu", "cuda"}
        if crosses and func in (aten._to_copy.default, aten.copy_.default):
            waits = not (options.get("non_blocking") or (func is aten.copy_.default and args[2:3] == (True,)))
        else:
            indices = args[1] if func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default) else ()
            waits = any(index is not None and _device(index) == "cpu" for index in indices) and crosses
        literal = func is aten.lift_fresh.default and _device(made[0]) == "cuda"
        if waits or literal:
            raise WouldWait(f"{func} between devices: {[(one.device, one.shape) for one in (*given, *made)]}")
        self.found.operations.append(
            Operation(str(func), _types(given), _types(made), tuple(tuple(one.shape) for one in (*given, *made)))
        )
        return result

    def _copied(self, tensor: Tensor) -> int | None:
        """Return how many operations had run before a tensor's last copy from the device; None: it is no copy."""
        same = [
            place
            for memory, place in self.found.arriving
            if memory.untyped_storage()._cdata == tensor.untyped_storage()._cdata
        ]
        return max(same, default=None)


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def _device(tensor: Tensor) -> str:
    return tensor.fake_device.type if isinstance(tensor, FakeTensor) else tensor.device.type


def _types(tensors: Sequence[Tensor]) -> tuple[torch.dtype, ...]:
    return tuple(tensor.dtype for tensor in tensors if tensor.is_floating_point())


class _Attention:
    """In the place of `scaled_dot_product_attention`: chooses the kernel as PyTorch does."""

    def __init__(self, found: FakeCuda) -> None:
        self.found = found

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        if query.device.type != "cuda":
            return torch._C._nn.scaled_dot_product_attention(query, key, value, attn_mask)
        kernel = choose_kernel(self.found.capability, query, key, value, attn_mask, self.found.cudnn)
        self.found.kernels[kernel] += 1
        if kernel == "flash":
            return aten._scaled_dot_product_flash_attention(query, key, value)[0]
        bias = None
        if attn_mask is not None:
            # What `convert_boolean_attn_mask` and `preprocess_mask` of attention.cpp would copy is a fault.
            assert attn_mask.dtype == query.dtype, "a boolean mask is made additive in every layer"
            assert all(stride % 16 == 0 for stride in attn_mask.stride()[:-1]), "rows of a mask are not aligned"
            bias = attn_mask.expand(*query.shape[:3], attn_mask.shape[-1])
        attention = aten._scaled_dot_product_efficient_attention
        if kernel == "cudnn":
            attention = aten._scaled_dot_product_cudnn_attention
        return attention(query, key, value, bias, torch.is_grad_enabled())[0]


def choose_kernel(
    capability: tuple[int, int],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    cudnn: int | None = CUDNN_OF_WHEELS,
) -> str:
    """Return the kernel that PyTorch's rules give this attention; AssertionError where it is the one with all scores.

    What depends on the GPU and its libraries is asked of `train/device/kernels.py`, as the planner does; what depends
    on the tensors themselves follows `can_use_flash_attention` and `can_use_mem_efficient_attention` of sdp_utils.cpp.
    """
    tensors = (query, key, value)
    head_dim = query.shape[-1]
    dense = all(each.dim() == 4 and each.stride(-1) == 1 and each.shape[2] > 0 for each in tensors)
    alike = all(each.shape[0] == query.shape[0] and each.shape[1] == query.shape[1] for each in tensors)
    same = all(each.dtype == query.dtype and each.shape[-1] == head_dim for each in tensors)
    half = query.dtype in (torch.bfloat16, torch.float16)
    fits = dense and alike and same and capability >= (8, 0)
    if fits and half and prefers_cudnn(capability, head_dim, cudnn):
        return "cudnn"
    if fits and mask is None and half and flash_takes(capability, head_dim):
        return "flash"
    alignment = 8 if half else 4
    aligned = head_dim % alignment == 0 and all(each.storage_offset() % alignment == 0 for each in tensors)
    if fits and aligned and (half or query.dtype == torch.float32):
        return "efficient"
    found = [(each.dtype, tuple(each.shape), each.stride(), each.storage_offset()) for each in tensors]
    raise AssertionError(f"attention would build the matrix of scores: {found}, mask {mask is not None}")
