"""Counts, on a CPU, what would make the program wait for a GPU: values read back, shapes that follow from values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
READS = (
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.is_nonzero.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
)
MOVES = (Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.item, Tensor.__bool__, Tensor.__array__)
"""What leaves the device, or bypasses the dispatcher on a CPU."""


class Waits(TorchDispatchMode):
    """Counts operations that wait for the device, by name, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self._calls = _Calls(self.found)

    def __enter__(self) -> Waits:
        self._calls.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._calls.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note the operation if it waits, and run it."""
        boolean = func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default) and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        literal = func is aten.lift_fresh.default  # numbers of the program become a tensor: a copy that is waited for
        if func in READS or boolean or literal:
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in MOVES:
            self._found[func.__name__] += 1
        return func(*args, **(kwargs or {}))
