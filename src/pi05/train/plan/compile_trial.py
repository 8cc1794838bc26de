"""Does code that torch.compile makes run on this device? Tried before layers are compiled that nobody asked for.

The trial is as small as a layer's kinds of work allow, attention in each way that the run's device has: what it finds
are machines on which nothing can be compiled. A compiler may still fail in the layers themselves; the run then ends
with the flag that does without. To go on uncompiled in the middle of a step would not be sound: with
`--gradient_release` some parameters have moved already. Leaves out whether compiling pays (`compilation.py`) and the
optimizer's own trial (`optim/compiled_check.py`).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pi05.compiler import first_line, is_of_compiler
from pi05.errors import TrainingError, is_out_of_memory
from pi05.model.layers import Keys, attend, key_bias
from pi05.model.packed_keys import Packing, Varlen, pack_keys
from pi05.train.plan.compilation import FLAG

Backend = str | Callable[..., Any]
"""A compiler, as torch.compile takes it."""
ROWS, WIDTH = 64, 128
SAMPLES, QUERIES, HEADS, KEYS, COUNTED = 2, 3, 2, 10, 8
"""Of the attention that is tried: two query heads for one of keys, of which some do not count."""
LARGEST = 0.05
"""Difference of a gradient over its own size. Compiled, bfloat16 is rounded in fewer places: below a percent."""
UPDATE = Path(__file__).parents[1] / "optim"


def why_not_compiling(
    device: torch.device, backend: Backend = "inductor", *, varlen: Varlen | None = None, head_dim: int = 64
) -> str | None:
    """Return None where compiled code gives the gradients of the same code run as it is, else the reason.

    Attention, with a mask and with `varlen` over packed keys, has only to run: which kernels are right is another
    question (`device/attention_probe.py`). Waits for the device.
    """
    try:
        for packs in (None, varlen) if varlen is not None else (None,):
            _try_attention(device, backend, packs, head_dim)
        plain, compiled = _gradients(device, None), _gradients(device, backend)
        differences = [
            float((one - other).norm() / one.norm()) for one, other in zip(plain, compiled, strict=True)
        ]  # fmt: skip
    except Exception as error:  # whatever a compiler, its driver or the launch of its code raises
        return first_line(error)
    worst = max(differences)
    return None if worst <= LARGEST else f"compiled, gradients differ by {worst:.0%}"


@contextmanager
def compiler_faults(asked: bool | None) -> Iterator[None]:
    """Turn an error of a compiler in this block into a TrainingError that names the flag; `asked` is its value.

    One of the optimizer's update stays what it is: no flag does without what was tried before the first step.
    """
    try:
        yield
    except Exception as error:
        if asked is False or is_out_of_memory(error) or not is_of_compiler(error) or _is_of_update(error):
            raise
        raise TrainingError(
            "torch.compile failed in the network's layers",
            wanted="layers that compile on this machine" + (", as asked for" if asked else ", where a trial went well"),
            found=first_line(error),
            remedy=f"{FLAG}=false runs them uncompiled, also for a run that is continued with --resume",
        ) from error


def _is_of_update(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(Path(frame.f_code.co_filename).parent == UPDATE for frame, _ in frames)


def _gradients(device: torch.device, backend: Backend | None) -> tuple[Tensor, Tensor]:
    """Return the gradients of rows and weight, in float32."""
    rows = torch.linspace(-1, 1, ROWS * WIDTH, device=device).sin().view(ROWS, WIDTH).bfloat16().requires_grad_()
    weight = torch.linspace(-1, 1, WIDTH * WIDTH, device=device).cos().view(WIDTH, WIDTH).bfloat16().requires_grad_()
    work = _like_a_layer if backend is None else torch.compile(_like_a_layer, backend=backend, fullgraph=True)
    work(rows, weight).float().square().mean().backward()
    if rows.grad is None or weight.grad is None:
        raise RuntimeError("the backward pass left no gradient")
    return rows.grad.float(), weight.grad.float()


def _try_attention(device: torch.device, backend: Backend, varlen: Varlen | None, head_dim: int) -> None:
    """Run compiled attention forward and backward."""
    drawn = [
        torch.linspace(-1, 1, SAMPLES * count * head_dim, device=device).bfloat16().view(SAMPLES, *shape, head_dim)
        for count, shape in ((QUERIES * HEADS, (QUERIES, HEADS)), (KEYS, (1, KEYS)), (KEYS, (1, KEYS)))
    ]
    query, key, value = (one.requires_grad_() for one in drawn)
    valid = (torch.arange(KEYS, device=device) < COUNTED).expand(SAMPLES, KEYS)
    keys: Keys = key_bias(valid, query.dtype)
    if varlen is not None:
        keys = pack_keys(valid, QUERIES, Packing(SAMPLES * COUNTED, varlen))
    torch.compile(attend, backend=backend, fullgraph=True)(query, key, value, keys).float().square().mean().backward()
    if query.grad is None or not query.grad.isfinite().cpu().all():
        raise RuntimeError("attention left no gradient, or one that is not finite")


def _like_a_layer(rows: Tensor, weight: Tensor) -> Tensor:
    """Norm, product, GELU and sum, as in the network's layers."""
    wide = rows.float()
    normed = (wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + 1e-6)).to(rows.dtype)
    return rows + F.gelu(normed @ weight, approximate="tanh")
