"""The parts of `gpu_day.py` besides attention and the update: machine, each method, compilation, offload, bits."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from gpu_run import PROMPT, PROMPTS, Bench, draw_batch, draw_state, fits, settings, take_steps
from gpu_update import update

from pi05.model.config import ModelConfig
from pi05.train.config import TrainConfig
from pi05.train.device.setup import prepare_device
from pi05.train.faults import BatchOrigin, UncheckedStep
from pi05.train.parallel.ranks import Ranks
from pi05.train.plan.gpus import GIB
from pi05.train.step import LossSettings, train_step

Part = Callable[[Bench], dict[str, Any]]
FULL, SELECTIVE, NONE = (f"--activation_checkpointing={degree}" for degree in ("full", "selective", "none"))
SMALL = (FULL, "--optimizer_state=8bit", "--gradient_release=true")
ORIGIN = BatchOrigin(frames=[0], episodes=[0])


def machine(bench: Bench) -> dict[str, Any]:
    """What the planner takes for granted: CUDA's own memory, products, copies, launches."""
    found: dict[str, Any] = {}
    if bench.on_gpu:
        free, total = torch.cuda.mem_get_info(bench.device)
        torch.ones(8, 8, device=bench.device, dtype=torch.bfloat16) @ torch.ones(
            8, 8, device=bench.device, dtype=torch.bfloat16
        )
        bench.wait()
        after = torch.cuda.mem_get_info(bench.device)[0]
        found = {
            "total_gib": total / GIB,
            "free_gib": free / GIB,
            "context_gib": (total - after - torch.cuda.memory_reserved(bench.device)) / GIB,
            "capability": torch.cuda.get_device_capability(bench.device),
            "expandable_segments": any(each["is_expandable"] for each in torch.cuda.memory_snapshot()),
        }
    side = 8192 if bench.on_gpu else 256
    square = torch.randn(side, side, device=bench.device, dtype=torch.bfloat16)
    found["products_tflops"] = 2 * side**3 / bench.timed(lambda: square @ square, 10) / 1e9
    block = torch.empty(2**30 if bench.on_gpu else 2**20, dtype=torch.uint8, device=bench.device)
    other = torch.empty_like(block)
    found["bandwidth_gbs"] = 2 * block.numel() / bench.timed(lambda: other.copy_(block), 10) / 1e6
    small, count = torch.zeros(8, device=bench.device), 10_000 if bench.on_gpu else 100
    found["launch_us"] = 1e3 * bench.timed(lambda: [small.add_(1) for _ in range(count)], 3) / count
    return found


def method(*flags: str, large: bool = False, cap: float | None = None, steps: int = 4) -> Part:
    """Return a part: memory and time of a method, at the small or the large batch, on a card of `cap` GiB."""

    def part(bench: Bench) -> dict[str, Any]:
        config, size = settings(*flags), bench.batches[large]
        if (why := fits(bench, config, size)) is not None:
            return {"left_out": why}
        with bench.limited(cap or 1e9):
            state = draw_state(bench, config)
            fixed = take_steps(bench, state, [draw_batch(bench, size) for _ in range(steps)])
            varying = take_steps(bench, state, [draw_batch(bench, size, PROMPTS[i % 3], seed=i) for i in range(steps)])
        return {
            "flags": flags,
            "batch": size,
            "cap_gib": cap,
            "fixed": fixed,
            "varying": varying,
            "update": state.optimizer.remark,
        }

    return part


def step_in_detail(bench: Bench) -> dict[str, Any]:
    """One step of `mixed` under the profiler; with and without the look at the losses; what synchronises."""
    config, size = settings(FULL), bench.batches[0]
    if (why := fits(bench, config, size)) is not None:
        return {"left_out": why}
    state, batch = draw_state(bench, config), draw_batch(bench, size)
    found: dict[str, Any] = {"fixed": take_steps(bench, state, [batch] * 3)}
    found["plain_ms"], found["checked_ms"] = (_loop(bench, state, batch, check) for check in (False, True))
    try:
        found |= _profile(bench, state, batch)
    except Exception as error:  # memory and times are worth having without it
        found["profile_error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    if bench.on_gpu:
        found["waits"] = _waits(state, batch)
    return found


def _profile(bench: Bench, state: Any, batch: Any) -> dict[str, Any]:
    """Return what a step's kernels are, how many, and how long the GPU is busy; nothing on a CPU."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] * bench.on_gpu
    with torch.profiler.profile(activities=activities) as profile:
        started = time.perf_counter()
        train_step(state, [batch], LossSettings(robot_action_dim=7))
        bench.wait()
        elapsed = time.perf_counter() - started
    events = profile.key_averages()
    if not bench.on_gpu:
        return {}
    events = [each for each in events if each.self_device_time_total > 0 and each.device_type.name == "CUDA"]
    top = sorted(events, key=lambda each: -each.self_device_time_total)[:20]
    return {
        "kernels": sum(each.count for each in events),
        "gpu_busy": sum(each.self_device_time_total for each in events) / 1e6 / elapsed,
        "top": [(each.key[:80], each.count, each.self_device_time_total / 1e3) for each in top],
    }


def _loop(bench: Bench, state: Any, batch: Any, check: bool) -> float:
    """Return the milliseconds per step of a few steps that are queued as the loop does it."""
    waiting: list[UncheckedStep] = []
    bench.wait()
    started = time.perf_counter()
    count = 6
    for _ in range(count):
        result = train_step(state, [batch], LossSettings(robot_action_dim=7))
        if check:
            waiting.append(UncheckedStep(result, ORIGIN))
            if len(waiting) > 1:
                waiting.pop(0).require_finite(["x"], Ranks())
    bench.wait()
    return 1e3 * (time.perf_counter() - started) / count


def _waits(state: Any, batch: Any) -> list[str]:
    """Return what PyTorch says waited for the device in a step."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train_step(state, [batch], LossSettings(robot_action_dim=7))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sorted({str(each.message).splitlines()[0] for each in told if "synchroniz" in str(each.message)})


def compiled(bench: Bench) -> dict[str, Any]:
    """Compiled layers at varying lengths: what compiling takes, recompilations, time, losses and gradients' norms."""
    config, size = settings(SELECTIVE), bench.batches[1]
    if not bench.on_gpu:
        return {"left_out": "a CPU's compiler is another one, and slow"}
    if (why := fits(bench, config, size)) is not None:
        return {"left_out": why}
    batches = [draw_batch(bench, size, PROMPTS[i % 3], masked=i % 2 == 0, seed=i) for i in range(6)]
    plain = take_steps(bench, draw_state(bench, config), batches)
    bench.clean()
    torch._dynamo.utils.counters.clear()
    state = draw_state(bench, config, compiled=True)
    started = time.perf_counter()
    cold = take_steps(bench, state, batches)
    elapsed = time.perf_counter() - started
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    warm = take_steps(bench, state, batches)
    more = torch._dynamo.utils.counters["stats"]["unique_graphs"] - graphs
    off = {
        f"{name}_off": max(abs(one / other - 1) for one, other in zip(cold[name], plain[name], strict=True))
        for name in ("losses", "grad_norms")
    }
    compiling = elapsed - len(batches) * warm["step_ms"] / 1e3
    found = {"eager": plain, "cold": cold, "warm": warm, "graphs": graphs, "recompiled_warm": more, **off}
    return {"flags": [SELECTIVE], "batch": size, "compiling_s": compiling, **found}


def offload(bench: Bench) -> dict[str, Any]:
    """Pinning, copies both ways, and a step with moments in host memory."""
    config, size = settings(FULL, "--optimizer_offload=true", "--gradient_release=true"), bench.batches[0]
    count = 2**30 if bench.on_gpu else 2**20
    found: dict[str, Any] = {}
    started = time.perf_counter()
    host = torch.empty(count, dtype=torch.uint8, pin_memory=bench.on_gpu)
    found["pin_gib_s"] = count / GIB / (time.perf_counter() - started)
    there = torch.empty(count, dtype=torch.uint8, device=bench.device)
    found["to_device_gbs"] = count / bench.timed(lambda: there.copy_(host, non_blocking=True), 3) / 1e6
    found["to_host_gbs"] = count / bench.timed(lambda: host.copy_(there, non_blocking=True), 3) / 1e6
    if (why := fits(bench, config, size)) is not None:
        return {**found, "left_out": why}
    state = draw_state(bench, config)
    return {**found, "fixed": take_steps(bench, state, [draw_batch(bench, size)] * 3)}


def repeated(bench: Bench) -> dict[str, Any]:
    """The same four steps twice, at full width with two layers each, with and without `--deterministic`: same bits?"""
    sizes = replace(bench.sizes, depth=2, vision_depth=2)
    found: dict[str, Any] = {}
    for name, flags in (("usual", ()), ("deterministic", ("--deterministic=true",))):
        config = settings(FULL, *flags)
        prepare_device(config, bench.device)
        try:
            found[name] = _twice(bench, config, sizes)
        except Exception as error:  # an operation has no such kernel, say; the other is worth having
            found[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        finally:
            torch.use_deterministic_algorithms(False)
    return found


def _twice(bench: Bench, config: TrainConfig, sizes: ModelConfig) -> dict[str, Any]:
    """Take the same steps from the same start twice; return whether they lead to the same bits, and their time."""
    batches = [draw_batch(bench, bench.batches[0], PROMPT, seed=i) for i in range(4)]
    runs = [draw_state(bench, config, sizes=sizes) for _ in range(2)]
    results = [take_steps(bench, state, batches) for state in runs]
    pairs = zip(*(state.model.state_dict().values() for state in runs), strict=True)
    return {
        "same_losses": results[0]["losses"] == results[1]["losses"],
        "same_weights": all(torch.equal(*pair) for pair in pairs),
        "step_ms": statistics.median(result["step_ms"] for result in results),
    }


PARTS: dict[str, Part] = {
    "machine": machine,
    "mixed": step_in_detail,
    "large none": method(NONE, large=True),
    "large selective": method(SELECTIVE, large=True),
    "large full": method(FULL, large=True),
    "24 GB bf16-sr": method("--precision=bf16-sr", *SMALL, cap=23.0),
    "24 GB mixed": method(*SMALL, cap=23.0),
    "lora": method("--method=lora", FULL, cap=12.0),
    "qlora": method("--method=qlora", FULL, cap=8.0),
    "update": update,
    "compiled": compiled,
    "offload": offload,
    "repeated": repeated,
}
"""By name, in the order of what they settle."""
