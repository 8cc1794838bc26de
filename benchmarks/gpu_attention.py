"""Attention on this GPU, for `gpu_day.py`: which kernel, how fast forward and backward, are its gradients right.

Every tower's at its own sizes, with and without a mask, at three batches; with cuDNN and without; and whether two
backward passes give the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from gpu_run import CAMERAS, Bench

from pi05.model.layers import Keys, attend, key_bias
from pi05.model.packed_keys import Packing, Varlen, pack_keys
from pi05.train.device.attention_cases import AttentionCase, StepLengths, cases_of
from pi05.train.device.attention_probe import SWITCHES, DrawnCase, chosen_kernel, draw_case, probe_attention
from pi05.train.device.kernels import expected_kernel
from pi05.train.device.varlen import flash_varlen, why_no_varlen

WAYS: dict[str, tuple[str, ...]] = {"as chosen": (), "without cuDNN": ("cudnn",), "efficient": ("cudnn", "flash")}
"""Kernels that are switched off for a row of the table."""
PACKED = "packed keys"
"""The row of a masked case with attention for sequences of different lengths."""
LENGTHS = ((64, 64), (50, 64), (50, 72))
"""Shortest and longest prompt: 576 keys without and with a mask, which are 64 modulo 128, and 584 with one."""


def attention_table(bench: Bench) -> dict[str, Any]:
    """Time every case and compare its gradients with float32's."""
    dtype = torch.bfloat16
    rows: list[dict[str, Any]] = []
    why_masked = why_no_varlen(bench.device, dtype, bench.sizes.head_dim)
    varlen = None if why_masked is not None else flash_varlen()
    cases = dict.fromkeys(case for lengths in LENGTHS for case in _cases(bench, *lengths))
    batches = (1, *bench.batches)
    for case in cases:
        for batch in batches:
            sized = replace(case, batch=batch * case.batch)
            rows += [
                {**_describe(sized, dtype, bench), "way": way, **_time(bench, sized, off)} for way, off in WAYS.items()
            ]
            if case.masked and varlen is not None:
                described = {**_describe(sized, dtype, bench), "expected": None, "way": PACKED}
                rows.append({**described, **_time(bench, sized, (), varlen)})
    probes = {
        f"{shortest} to {longest} tokens": _probe(bench, shortest, longest, varlen) for shortest, longest in LENGTHS
    }
    return {"rows": rows, "probes": probes, "not_packed": why_masked}


def _probe(bench: Bench, shortest: int, longest: int, varlen: Varlen | None) -> dict[str, Any]:
    """Return what a run's own probe says, or its error; kernels that it switches off are on again behind it."""
    cases = _cases(bench, shortest, longest, bench.batches[0])
    try:
        probe = probe_attention(cases, bench.device, torch.bfloat16, ["slow_attention"], varlen=varlen)
    except Exception as error:  # the rows are worth having
        return {"error": (f"{type(error).__name__}: {error}".splitlines())[0]}
    finally:
        for switch in SWITCHES.values():
            switch(True)
    return {"line": probe.line(), "switched_off": probe.switched_off}


def _cases(bench: Bench, shortest: int, longest: int, batch: int = 1) -> list[AttentionCase]:
    bucket = 1 if shortest == longest else 8
    lengths = StepLengths(batch=batch, cameras=CAMERAS, shortest=shortest, longest=longest, bucket=bucket)
    return cases_of(bench.sizes, lengths)


def _describe(case: AttentionCase, dtype: torch.dtype, bench: Bench) -> dict[str, Any]:
    expected = None
    if bench.on_gpu:
        version = torch.backends.cudnn.version()
        expected = expected_kernel(bench.gpu.capability, head_dim=case.head_dim, masked=case.masked, cudnn=version)
    # As the planner counts: every key of a batch, two products forward and five backward.
    flops = 14.0 * case.batch * case.queries * case.heads * case.head_dim * case.keys
    found = {"tower": case.tower, "batch": case.batch, "keys": case.keys, "masked": case.masked}
    return {**found, "flops": flops, "expected": expected}


def _time(bench: Bench, case: AttentionCase, off: tuple[str, ...], varlen: Varlen | None = None) -> dict[str, Any]:
    """Return kernel, milliseconds, seconds of the first call, and whether the gradients repeat bit for bit."""
    with _switched_off(off):
        drawn = draw_case(case, bench.device, torch.bfloat16)
        started = time.perf_counter()
        try:
            keys = _keys(drawn, varlen)
            first = _gradients(drawn, keys)
            bench.wait()
        except RuntimeError as error:
            return {"error": str(error).splitlines()[0]}
        cold = time.perf_counter() - started
        again = _gradients(drawn, keys)
        repeat = 1 if not bench.on_gpu else 5
        forward = bench.timed(lambda: attend(drawn.query, drawn.key, drawn.value, keys), repeat)
        both = bench.timed(lambda: _gradients(drawn, keys), repeat)
        return {
            "kernel": chosen_kernel(drawn) if varlen is None else "flash",
            "first_call_s": cold,
            "forward_ms": forward,
            "backward_ms": both - forward,
            "finite": all(bool(torch.isfinite(each).all()) for each in first),
            "same_bits": all(torch.equal(*pair) for pair in zip(first, again, strict=True)),
        }


def _keys(drawn: DrawnCase, varlen: Varlen | None) -> Keys:
    """Return the case's keys, masked or packed, as its network would make them once for all layers."""
    if varlen is None or drawn.valid is None:
        return key_bias(drawn.valid, drawn.query.dtype)
    return pack_keys(drawn.valid, drawn.query.shape[1], Packing(int(drawn.valid.sum()), varlen))


def _gradients(drawn: DrawnCase, keys: Keys) -> tuple[torch.Tensor, ...]:
    inputs = (drawn.query, drawn.key, drawn.value)
    seen = attend(*inputs, keys)
    return torch.autograd.grad(seen, inputs, drawn.gradient)


@contextmanager
def _switched_off(kernels: tuple[str, ...]) -> Iterator[None]:
    for kernel in kernels:
        SWITCHES[kernel](False)  # type: ignore[index]
    try:
        yield
    finally:
        with suppress(KeyError):
            for switch in SWITCHES.values():
                switch(True)
