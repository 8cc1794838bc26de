"""Before the first step: which kernel does attention get on this device, and are its gradients right?

For each attention that the run will meet (`attention_cases.py`) PyTorch is asked which kernel it chooses, then one
forward and backward pass through the network's own `attend` is compared with plain arithmetic in float32. Among the
queries are some whose scores are all near -120: kernels have returned NaN there. A kernel that fails, raises or is
wrong is switched off for the whole run, and the next one is tried. Nothing of the run's random state is touched.

Where the device has attention for sequences of different lengths (`varlen.py`), it is tried on the masked cases in the
same way, with packed keys; if it is right in all of them, the run takes it in the place of masks.

Leaves out the rules of PyTorch's choice (`kernels.py`), which the planner and the tests go by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pi05.errors import TrainingError
from pi05.model.layers import Keys, attend, fold_heads, key_bias
from pi05.model.packed_keys import Packing, Varlen, pack_keys
from pi05.train.config import ALLOW_ATTENTION
from pi05.train.device.attention_cases import AttentionCase
from pi05.train.device.kernels import KERNEL_NAMES, PACKED_NAME, Kernel
from pi05.train.parallel.ranks import Ranks

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.04}
"""Largest difference of a result or gradient from float32's, relative by norm. Kernels round the shares that keys get
to bfloat16, 0.4 %, and add up in another order; a wrong kernel is off by a tenth or more."""
LOW_SCORE = -120.0
"""Score of all keys for every `EVERY`-th query: its exponential is 0 in float32, so that a kernel has to take the
maximum of a row off first, in both passes."""
EVERY, MOST_ON_CPU = 7, 2
"""On a CPU two samples are enough: its kernels do not choose by the batch."""
CHOICES: dict[int, Kernel] = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn"}
"""`at::native::SDPBackend`."""
SWITCHES: dict[Kernel, Callable[[bool], None]] = {
    "flash": torch.backends.cuda.enable_flash_sdp,
    "efficient": torch.backends.cuda.enable_mem_efficient_sdp,
    "cudnn": torch.backends.cuda.enable_cudnn_sdp,
}
"""What switches a kernel off in the whole process; on a CPU, where there is none else, the one for flash counts."""


@dataclass(frozen=True, kw_only=True)
class ProbedCase:
    """What was found out about one case: the kernel that is used, and the largest difference of its results."""

    case: AttentionCase
    kernel: Kernel
    difference: float


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the probe has found out."""

    cases: tuple[ProbedCase, ...]
    switched_off: tuple[str, ...] = ()
    """For each kernel that is switched off, a sentence that says why."""
    packed: float | None = None
    """Where the masked cases are right with packed keys, and will have those: their results' largest difference."""
    not_packed: str | None = None
    """Why they will not, where that is a question."""

    def line(self) -> str:
        """Say which tower has which kernel."""
        packed = self.packed is not None
        words = list(dict.fromkeys(_named(each, packed) for each in self.cases))
        used = [each.difference for each in self.cases if not (packed and each.case.masked)]
        worst = max([*used, self.packed or 0.0])
        without = f"; keys are masked, not packed: {self.not_packed}" if self.not_packed else ""
        return f"attention: {', '.join(words)}; gradients within {worst:.2%} of float32's{without}"


def _named(probed: ProbedCase, packed: bool) -> str:
    if packed and probed.case.masked:
        return f"{probed.case.tower} {PACKED_NAME}"
    kernel = KERNEL_NAMES[probed.kernel]
    if probed.kernel == "cudnn":
        version = torch.backends.cudnn.version() or 0
        kernel = f"cuDNN {version // 10000}.{version // 100 % 100}"
    return f"{probed.case.tower} {kernel}{' masked' * probed.case.masked}"


def probe_attention(
    cases: Sequence[AttentionCase],
    device: torch.device,
    dtype: torch.dtype,
    allow: Sequence[str] = (),
    ranks: Ranks | None = None,
    varlen: Varlen | None = None,
) -> Probe:
    """Find out which kernels these cases get, and switch off those that are wrong; the same in all processes.

    Masks are tried even where `varlen` will read packed keys: sampling and whoever has not counted uses them.

    Raises TrainingError where on a GPU only the kernel is left that builds the matrix of scores, unless
    `--allow=slow_attention`, and where even that one is wrong.
    """
    found: dict[AttentionCase, ProbedCase] = {}
    off: list[str] = []
    while (case := next((each for each in cases if each not in found), None)) is not None:
        drawn = draw_case(case, device, dtype)
        kernel = chosen_kernel(drawn)
        difference, fault = _examine(drawn, dtype)
        faulty = fault is not None
        if (ranks or Ranks()).any(faulty):
            off.append(f"{KERNEL_NAMES[kernel]} is switched off: {fault or 'wrong on another GPU'} ({case.told})")
            if kernel not in SWITCHES:
                raise _no_kernel(off[-1])
            SWITCHES[kernel](False)
            found.clear()  # cases before this one may have had it, too: they are looked at with what they get now
        elif kernel == "math" and device.type != "cpu" and ALLOW_ATTENTION not in allow:
            raise _slow(case, dtype, off)
        else:
            found[case] = ProbedCase(case=case, kernel=kernel, difference=difference)
    packed, fault = None, None
    if varlen is not None:
        packed, fault = _try_packed([case for case in cases if case.masked], device, dtype, ranks or Ranks(), varlen)
    return Probe(cases=tuple(found[case] for case in cases), switched_off=tuple(off), packed=packed, not_packed=fault)


def _try_packed(
    cases: Sequence[AttentionCase], device: torch.device, dtype: torch.dtype, ranks: Ranks, varlen: Varlen
) -> tuple[float | None, str | None]:
    """Return the largest difference of the masked cases' results with packed keys, or what is wrong, if anything is."""
    worst = None
    for case in cases:
        drawn = draw_case(case, device, dtype)
        difference, fault = _examine(drawn, dtype, varlen)
        if ranks.any(fault is not None):
            return None, f"{fault or 'wrong on another GPU'} ({case.told})"
        worst = max(worst or 0.0, difference)
    return worst, None


@dataclass(frozen=True, kw_only=True)
class DrawnCase:
    """Queries, keys, values, and the gradient of the result, as a step would have them."""

    query: Float[Tensor, "B Q N H"]
    key: Float[Tensor, "B K L H"]
    value: Float[Tensor, "B K L H"]
    valid: Bool[Tensor, "B L"] | None
    gradient: Float[Tensor, "B Q N*H"]


def draw_case(case: AttentionCase, device: torch.device, dtype: torch.dtype) -> DrawnCase:
    """Draw a case. Keys lie as the network's: positions before heads in memory."""
    generator = torch.Generator(device).manual_seed(0)
    batch = min(case.batch, MOST_ON_CPU) if device.type == "cpu" else case.batch
    heads, width = case.heads, case.head_dim

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    query, key = normal(batch, case.queries, heads, width), normal(batch, case.keys, case.kv_heads, width)
    # One axis on which every key has the same place: queries far on its other side score low with all of them.
    key[..., 0] = 4.0
    query[..., 0] = 0.0
    query[:, ::EVERY, :, 0] = LOW_SCORE * math.sqrt(width) / 4.0
    key, value = key.to(dtype).transpose(1, 2), normal(*key.shape).to(dtype).transpose(1, 2)
    valid = None
    if case.masked:
        padding = case.keys - case.shortest
        counted = case.keys - torch.arange(batch, device=device) * padding // max(1, batch - 1)
        counted[-1] = case.shortest  # of one sample alone, too
        valid = torch.arange(case.keys, device=device) < counted[:, None]
    return DrawnCase(
        query=query.to(dtype).requires_grad_(),
        key=key.requires_grad_(),
        value=value.requires_grad_(),
        valid=valid,
        gradient=normal(batch, case.queries, heads * width).to(dtype),
    )


def chosen_kernel(drawn: DrawnCase) -> Kernel:
    """Ask PyTorch which kernel it takes for a case, in a forward pass that will have a backward pass."""
    folded = fold_heads(drawn.query, drawn.key.shape[1])
    choice = torch._fused_sdp_choice(folded, drawn.key, drawn.value, key_bias(drawn.valid, drawn.query.dtype))
    return CHOICES[int(choice)]


def _examine(drawn: DrawnCase, dtype: torch.dtype, varlen: Varlen | None = None) -> tuple[float, str | None]:
    """Run a case; return the largest difference from float32's results, and what is wrong, if anything is."""
    inputs = (drawn.query, drawn.key, drawn.value)
    try:
        keys: Keys = key_bias(drawn.valid, dtype)
        if varlen is not None and drawn.valid is not None:
            count = int(drawn.valid.sum())  # nobody waits for the probe
            keys = pack_keys(drawn.valid, drawn.query.shape[1], Packing(count, varlen))
        seen = attend(*inputs, keys)
        results = (seen.detach(), *torch.autograd.grad(seen, inputs, drawn.gradient))
        broken = [not bool(torch.isfinite(each).all()) for each in results]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # of the kernel, or of the library behind it
        return math.inf, str(error).splitlines()[0]
    names = ("result", "gradient of the queries", "gradient of the keys", "gradient of the values")
    if any(broken):
        return math.inf, f"NaN or infinity in the {names[broken.index(True)]}"
    last = len(drawn.query) - 1
    differences = [0.0] * len(names)
    for sample in sorted({0, last}):  # a whole batch of score matrices would not fit
        here = slice(sample, sample + 1)
        wanted = _reference(drawn, here)
        differences = [
            max(known, float((result[here].float() - right).norm() / right.norm()))
            for known, result, right in zip(differences, results, wanted, strict=True)
        ]
    worst = max(differences)
    if worst > TOLERANCE[dtype]:
        return worst, f"the {names[differences.index(worst)]} differs from float32's by {worst:.0%}"
    return worst, None


def _reference(drawn: DrawnCase, here: slice) -> tuple[Tensor, ...]:
    """Return result and gradients of some samples by plain arithmetic in float32, score matrix and all."""
    inputs = [each.detach()[here].float().requires_grad_() for each in (drawn.query, drawn.key, drawn.value)]
    query, key, value = inputs
    groups = query.shape[2] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.einsum("bqnh,bnlh->bnql", query, key) / math.sqrt(query.shape[-1])
    if drawn.valid is not None:
        scores = scores.masked_fill(~drawn.valid[here][:, None, None, :], -math.inf)
    seen = torch.einsum("bnql,bnlh->bqnh", scores.softmax(dim=-1), value).flatten(2)
    return (seen.detach(), *torch.autograd.grad(seen, inputs, drawn.gradient[here].float()))


def suspect_attention() -> str | None:
    """Return what to try where a gradient is not finite and a kernel is known to have caused that; None where not."""
    if not torch.cuda.is_available() or not torch.backends.cuda.cudnn_sdp_enabled():
        return None
    if torch.cuda.get_device_capability()[0] not in (9, 10):
        return None
    return (
        "or with TORCH_CUDNN_SDPA_DEPRIORITIZED=1 in the environment: cuDNN's attention has returned such gradients "
        "on Hopper (https://github.com/pytorch/pytorch/issues/196678), though not in the probe before this run"
    )


def _no_kernel(reason: str) -> TrainingError:
    return TrainingError(
        "no kernel of attention computes right gradients on this device",
        wanted="one that agrees with float32",
        found=reason,
        remedy="pi05 doctor looks at driver, GPU and PyTorch; another version of PyTorch brings other kernels",
    )


def _slow(case: AttentionCase, dtype: torch.dtype, off: Sequence[str]) -> TrainingError:
    kind = str(dtype).removeprefix("torch.")
    return TrainingError(
        "attention has no fast kernel on this GPU, and would build the matrix of all scores in each layer",
        wanted="flash, memory-efficient or cuDNN attention",
        found="; ".join([f"{case.told}, {kind}", *off]),
        remedy=f"another version of PyTorch has other kernels (pi05 doctor); --allow={ALLOW_ATTENTION} trains all the "
        "same, slower and with more memory than `pi05 plan` says",
    )
