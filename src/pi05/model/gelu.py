"""GELU in its tanh form, which all three towers have, alone and as Gemma's gate.

Where a CPU only infers (`model/inference.py` says so), it is the same function by other operations. PyTorch's kernel
takes 2 ns for a value there, and 8 where values are large: numbers too small for a CPU's full speed come up inside it.
As tanh, which PyTorch takes from Intel's library, or as a logistic function in a compiled graph, it is 1 to 2 ns,
however large they are. Differs from PyTorch's by roundings of float32. Training keeps PyTorch's, whose gradient it
needs, and so do GPUs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SLOPE = math.sqrt(2 / math.pi)
CUBIC = 0.044715
FAR = 80.0
"""The logistic function is asked no further out: exp(-80) still has full precision, and x times it is next to 0."""


def gelu(x: Float[Tensor, "*batch hidden"], only_infers: bool = False) -> Float[Tensor, "*batch hidden"]:
    """Return x · Φ(x) in the tanh form: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    if not (only_infers and _takes(x)):
        return F.gelu(x, approximate="tanh")
    if torch.compiler.is_compiling():
        return _logistic(x)
    return _one_plus_tanh(x).mul_(x).mul_(0.5)


def gated(
    gate: Float[Tensor, "*batch hidden"], branch: Float[Tensor, "*batch hidden"], only_infers: bool = False
) -> Float[Tensor, "*batch hidden"]:
    """Return GELU(gate) · branch."""
    if not (only_infers and _takes(gate)):
        return F.gelu(gate, approximate="tanh") * branch
    if torch.compiler.is_compiling():
        return _logistic(gate) * branch
    return _one_plus_tanh(gate).mul_(gate).mul_(branch).mul_(0.5)


def _takes(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()


def _logistic(x: Tensor) -> Tensor:
    """The same, since (1 + tanh(z)) / 2 is the logistic function of 2 z. A compiler makes one pass of it."""
    return x * torch.sigmoid((2 * SLOPE * (x + CUBIC * x * x * x)).clamp(-FAR, FAR))


def _one_plus_tanh(x: Tensor) -> Tensor:
    """In one new piece of memory, in place from there on."""
    return (x * x).mul_(SLOPE * CUBIC).add_(SLOPE).mul_(x).tanh_().add_(1.0)
