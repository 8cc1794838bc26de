"""`benchmarks/gpu_day.py`: a part that fails, or takes the device with it, does not end the rest; what is compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from programs import REPOSITORY, load_program

from pi05.errors import TrainingError
from pi05.model.config import tiny
from pi05.train.plan.gpus import GPUS
from pi05.train.plan.step_on_shapes import Shapes

KERNELS = (
    torch.backends.cuda.flash_sdp_enabled,
    torch.backends.cuda.mem_efficient_sdp_enabled,
    torch.backends.cuda.cudnn_sdp_enabled,
)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    monkeypatch.setattr("pi05.train.device.setup.prepare_environment", lambda **_: None)
    return load_program("benchmarks/gpu_day.py")


def fail(message: str) -> Callable[..., Any]:
    def raising(*_: Any) -> Any:
        raise RuntimeError(message)

    return raising


def run(program: ModuleType, monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any], *flags: str) -> None:
    monkeypatch.setattr(program, "ORDER", parts)
    monkeypatch.setattr(sys, "argv", ["gpu_day.py", "--rehearse", *flags])
    assert program.main() == 0


def test_parts_that_fail_leave_their_error_and_the_others_go_on(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "day.json"
    parts = {"one": lambda _: {"x": 1}, "two": fail("a kernel\nof old"), "three": lambda _: {"x": 3}}
    run(program, monkeypatch, parts, "--out", str(path))
    found = json.loads(path.read_text())["parts"]
    assert [found[name].get("x") for name in parts] == [1, None, 3]
    assert found["two"]["error"] == "RuntimeError: a kernel"


def test_some_parts_leave_what_is_there_of_the_others(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "day.json"
    values = {"one": 1, "two": 2}
    parts = {name: lambda _, name=name: {"x": values[name]} for name in values}
    run(program, monkeypatch, parts, "--out", str(path))
    values |= {"one": 10, "two": 20}
    run(program, monkeypatch, parts, "--out", str(path), "--only", "two")
    found = json.loads(path.read_text())
    assert [found["parts"][name]["x"] for name in values] == [1, 20]
    path.write_text(json.dumps({**found, "versions": {"torch": "another"}}))
    run(program, monkeypatch, parts, "--out", str(path), "--only", "two")
    assert list(json.loads(path.read_text())["parts"]) == ["two"], "parts of another version are not mixed in"


def test_a_device_that_answers_no_more_is_left_to_a_fresh_process(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, begun = tmp_path / "day.json", []
    parts = {"one": lambda _: {"x": 1}, "two": lambda _: {"x": 2}, "three": lambda _: {"x": 3}}
    monkeypatch.setattr(program.Bench, "wait", fail("illegal address"))
    monkeypatch.setattr(program.os, "execv", lambda *words: begun.append(words))
    run(program, monkeypatch, parts, "--out", str(path))
    found = json.loads(path.read_text())["parts"]
    assert (found["one"]["x"], found["one"]["error"]) == (1, "RuntimeError: illegal address")
    assert begun[0][0] == sys.executable
    assert begun[0][1][2:] == ["--rehearse", "--out", str(path), "--only", "two", "three"]


def test_a_probe_of_attention_that_fails_leaves_the_rows_its_error_and_all_kernels_on(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention, compare = load_program("benchmarks/gpu_attention.py"), load_program("benchmarks/gpu_compare.py")

    def probe(*_: Any, **__: Any) -> Any:
        for switch in attention.SWITCHES.values():
            switch(False)
        raise TrainingError("no kernel is right", remedy="none")

    monkeypatch.setattr(attention, "probe_attention", probe)
    monkeypatch.setattr(attention, "_time", lambda *_: {"kernel": "flash"})
    try:
        found = attention.attention_table(program.Bench.here(rehearse=True))
        assert all(is_on() for is_on in KERNELS)
    finally:
        for switch in attention.SWITCHES.values():
            switch(True)
    assert len(found["rows"]) > 9
    error = "TrainingError: no kernel is right"
    assert {each["error"] for each in found["probes"].values()} == {error}
    told = [line for line in compare.findings({"attention": found}) if "failed" in line]
    assert told == [f"{lengths}: the probe of attention failed: {error}" for lengths in found["probes"]]


def test_what_fails_inside_a_part_leaves_the_rest_of_it(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profiler that has no access; an operation without a deterministic kernel."""
    parts, compare = load_program("benchmarks/gpu_parts.py"), load_program("benchmarks/gpu_compare.py")
    bench = program.Bench.here(rehearse=True)
    monkeypatch.setattr(parts, "draw_state", lambda *_, **__: None)
    monkeypatch.setattr(parts, "take_steps", lambda *_: {"step_ms": 1.0})
    monkeypatch.setattr(parts, "_loop", lambda *_: 2.0)
    monkeypatch.setattr(parts, "_profile", fail("no CUPTI"))
    monkeypatch.setattr(parts, "prepare_device", lambda *_: None)
    same = {"same_losses": True, "same_weights": False, "step_ms": 1.0}
    monkeypatch.setattr(parts, "_twice", lambda _, config, __: fail("no kernel")() if config.deterministic else same)
    mixed, repeated = parts.step_in_detail(bench), parts.repeated(bench)
    assert mixed == {
        "fixed": {"step_ms": 1.0},
        "plain_ms": 2.0,
        "checked_ms": 2.0,
        "profile_error": mixed["profile_error"],
    }
    assert repeated == {"usual": same, "deterministic": {"error": "RuntimeError: no kernel"}}
    told = list(compare.findings({"mixed": mixed, "repeated": repeated}))
    assert told[1:] == [
        "the profiler failed: RuntimeError: no CUPTI",
        "usual kernels: same losses True, same weights False",
        "deterministic kernels: RuntimeError: no kernel",
    ]


def test_what_an_update_needs_is_that_of_its_later_steps(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one compiles, or tunes a kernel."""
    peak = [10 * 2**30]
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2**30)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: peak[-1])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: peak.append(3 * 2**30))
    bench = SimpleNamespace(device=torch.device("cpu"), on_gpu=True, wait=lambda: None, timed=lambda work: work())
    row = load_program("benchmarks/gpu_update.py")._update_of(bench, [(4, 4)], torch.float32, "float32", "plain")
    assert row["temporary_gib"] == 2.0


ROW = {"tower": "language", "batch": 32, "keys": 576, "masked": True, "way": "as chosen", "expected": "cudnn"}
H200 = GPUS["h200"]


def test_what_attention_reaches_is_put_beside_what_is_assumed_kernel_by_kernel(program: ModuleType) -> None:
    compare = load_program("benchmarks/gpu_compare.py")
    times = {"forward_ms": 1.0, "backward_ms": 3.0, "finite": True, "flops": 0.25 * H200.bf16_tflops * 1e12 * 4e-3}
    rows = [
        {**ROW, **times, "kernel": "cudnn"},
        {**ROW, **times, "kernel": "efficient", "flops": times["flops"] / 5},
        {**ROW, **times, "kernel": "efficient", "batch": 1, "flops": 0.0},
        {**ROW, "error": "no plan"},
    ]
    found = {each.what: each for each in compare.compare_attention({"rows": rows}, H200)}
    assert set(found) == {"ATTENTION_SHARE, cuDNN", "ATTENTION_SHARE, memory-efficient"}
    assert found["ATTENTION_SHARE, cuDNN"].measured == pytest.approx(0.25)
    assert found["ATTENTION_SHARE, memory-efficient"].measured == pytest.approx(0.05)
    assert list(compare.compare_attention({}, H200)) == []


def test_what_compiling_takes_and_saves_is_put_beside_what_is_assumed(program: ModuleType) -> None:
    compare = load_program("benchmarks/gpu_compare.py")
    flags = ["--activation_checkpointing=selective"]
    shapes = Shapes(batch=2, cameras=compare.CAMERAS, prompt_tokens=compare.PROMPT)
    parts = compare.count_operations(compare.settings(*flags), tiny(), shapes).parts(H200)
    joined = 1e3 * sum(parts[kind].seconds for kind in compare.FUSED)
    told = {"flags": flags, "batch": 2, "compiling_s": 90.0}
    told |= {"eager": {"step_ms": joined + 5}, "warm": {"step_ms": joined / 4 + 5}}
    start, left = compare.compare_compilation(told, H200, tiny())
    assert (start.what, start.predicted, start.measured) == ("START_SECONDS", compare.START_SECONDS, 90.0)
    assert (left.what, left.predicted) == ("FUSED_SHARE", compare.FUSED_SHARE)
    assert left.measured == pytest.approx(0.25)
    assert list(compare.compare_compilation({"left_out": "too large"}, H200, tiny())) == []


def test_wrong_gradients_and_memory_that_does_not_grow_are_told(program: ModuleType) -> None:
    compare = load_program("benchmarks/gpu_compare.py")
    rows = [{**ROW, "kernel": "cudnn", "finite": finite} for finite in (True, False)]
    parts = {"machine": {"expandable_segments": False}, "attention": {"rows": rows}}
    told = list(compare.findings(parts))
    assert [line.split(",")[0] for line in told] == ["memory does not grow in place: PyTorch has not read "
                                                    "expandable_segments", "attention language"]  # fmt: skip
    assert "576 keys, masked, as chosen (cudnn): NaN or infinity" in told[1]
    parts["machine"]["expandable_segments"] = True
    assert len(list(compare.findings(parts))) == 1


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "compared"),
    [
        ([], []),
        (["--rehearse"], ["/tmp/there/pi05_gpu_day_rehearsal.json"]),
        (["--out", "a b.json", "--only", "machine"], ["a b.json"]),
        (["--rehearse", "--out=own.json"], ["own.json"]),
    ],
)
def test_what_is_compared_is_what_was_written(words: list[str], compared: list[str], tmp_path: Path) -> None:
    """`gpu_day.sh` with an interpreter that writes down what it is given."""
    python = tmp_path / "python"
    python.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$*"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "TMPDIR": "/tmp/there"}
    script = ["bash", str(REPOSITORY / "benchmarks" / "gpu_day.sh"), *words]
    told = subprocess.run(script, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()
    written = [word for path in compared for word in ("--out", path)]
    wanted = (["benchmarks/gpu_day.py", *words, *written], ["benchmarks/gpu_compare.py", *compared])
    assert told == [" ".join(each) for each in wanted]
