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

from pi05.model.layers import attend, key_bias
from pi05.train.device.attention_cases import AttentionCase, StepLengths, cases_of
from pi05.train.device.attention_probe import SWITCHES, DrawnCase, chosen_kernel, draw_case, probe_attention
from pi05.train.device.kernels import expected_kernel

WAYS: dict[str, tuple[str, ...]] = {"as chosen": (), "without cuDNN": ("cudnn",), "efficient": ("cudnn", "flash")}
"""Kernels that are switched off for a row of the table."""
LENGTHS = ((64, 64), (50, 64), (50, 72))
"""Shortest and longest prompt: 576 keys without and with a mask, which are 64 modulo 128, and 584 with one."""


def attention_table(bench: Bench) -> dict[str, Any]:
    """Time every case and compare its gradients with float32's."""
    dtype = torch.bfloat16
    rows: list[dict[str, Any]] = []
    cases = dict.fromkeys(case for lengths in LENGTHS for case in _cases(bench, *lengths))
    batches = (1, *bench.batches)
    for case in cases:
        for batch in batches:
            sized = replace(case, batch=batch * case.batch)
            rows += [
                {**_describe(sized, dtype, bench), "way": way, **_time(bench, sized, off)} for way, off in WAYS.items()
            ]
    probes = {}
    for shortest, longest in LENGTHS:
        probe = probe_attention(
            _cases(bench, shortest, longest, bench.batches[0]), bench.device, dtype, ["slow_attention"]
        )
        probes[f"{shortest} to {longest} tokens"] = {"line": probe.line(), "switched_off": probe.switched_off}
        for switch in SWITCHES.values():
            switch(True)
    return {"rows": rows, "probes": probes}


def _cases(bench: Bench, shortest: int, longest: int, batch: int = 1) -> list[AttentionCase]:
    bucket = 1 if shortest == longest else 8
    lengths = StepLengths(batch=batch, cameras=CAMERAS, shortest=shortest, longest=longest, bucket=bucket)
    return cases_of(bench.sizes, lengths)


def _describe(case: AttentionCase, dtype: torch.dtype, bench: Bench) -> dict[str, Any]:
    expected = None
    if bench.on_gpu:
        version = torch.backends.cudnn.version()
        expected = expected_kernel(bench.gpu.capability, head_dim=case.head_dim, masked=case.masked, cudnn=version)
    return {"tower": case.tower, "batch": case.batch, "keys": case.keys, "masked": case.masked, "expected": expected}


def _time(bench: Bench, case: AttentionCase, off: tuple[str, ...]) -> dict[str, Any]:
    """Return kernel, milliseconds, seconds of the first call, and whether the gradients repeat bit for bit."""
    with _switched_off(off):
        drawn = draw_case(case, bench.device, torch.bfloat16)
        started = time.perf_counter()
        try:
            first = _gradients(drawn)
            bench.wait()
        except RuntimeError as error:
            return {"error": str(error).splitlines()[0]}
        cold = time.perf_counter() - started
        again = _gradients(drawn)
        repeat = 1 if not bench.on_gpu else 5
        bias = key_bias(drawn.valid, torch.bfloat16)
        forward = bench.timed(lambda: attend(drawn.query, drawn.key, drawn.value, bias), repeat)
        both = bench.timed(lambda: _gradients(drawn), repeat)
        return {
            "kernel": chosen_kernel(drawn),
            "first_call_s": cold,
            "forward_ms": forward,
            "backward_ms": both - forward,
            "finite": all(bool(torch.isfinite(each).all()) for each in first),
            "same_bits": all(torch.equal(*pair) for pair in zip(first, again, strict=True)),
        }


def _gradients(drawn: DrawnCase) -> tuple[torch.Tensor, ...]:
    inputs = (drawn.query, drawn.key, drawn.value)
    seen = attend(*inputs, key_bias(drawn.valid, drawn.query.dtype))
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
