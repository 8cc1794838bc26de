"""PyTorch's attention for sequences of different lengths: flash attention, on GPUs from Ampere on.

There since PyTorch 2.10; 2.12 brought query heads that share a key/value head (`enable_gqa`). It takes bfloat16 and
float16 only, and has no CPU kernel. Leaves out how batches are packed (`model/packed_keys.py`) and whether the kernel
is right (`attention_probe.py`).
"""

from __future__ import annotations

import importlib.util
import inspect

import torch
from torch import Tensor

from pi05.model.packed_keys import Varlen
from pi05.train.device.kernels import Capability, flash_takes


def why_no_varlen(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Return None where packed keys can be tried on this device, else the reason."""
    if device.type != "cuda":
        return "only GPUs have the kernel"
    return why_masked(torch.cuda.get_device_capability(device), dtype, head_dim)


def why_masked(capability: Capability, dtype: torch.dtype, head_dim: int) -> str | None:
    """Return None where a GPU can try packed keys with the PyTorch that is installed here, else the reason.

    What a run and its plan go by; the plan's GPU need not be here.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return f"the kernel does not take {str(dtype).removeprefix('torch.')}"
    if not flash_takes(capability, head_dim):
        return "flash attention does not run on this GPU with heads of this width"
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"PyTorch {torch.__version__} has none; 2.10 is the first"
    return None


def flash_varlen() -> Varlen:
    """Return PyTorch's. Raises ImportError before 2.10."""
    from torch.nn.attention.varlen import varlen_attn

    grouped = "enable_gqa" in inspect.signature(varlen_attn).parameters

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_starts: Tensor,
        key_starts: Tensor,
        most_queries: int,
        most_keys: int,
    ) -> Tensor:
        if grouped:
            seen = varlen_attn(
                query, key, value, query_starts, key_starts, most_queries, most_keys, enable_gqa=True
            )  # fmt: skip
        else:
            seen = varlen_attn(query, key, value, query_starts, key_starts, most_queries, most_keys)
        assert isinstance(seen, Tensor)  # two only where more is asked for
        return seen

    return Varlen(attend, grouped)
