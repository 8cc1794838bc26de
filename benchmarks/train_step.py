"""Time one training step against LeRobot's, on the same weights, pictures, prompts and noise, in float32 on a CPU.

Each side is a process of its own (LeRobot in its Python 3.12 environment); they take turns, A B A B, in one run, so
that a busy machine disturbs both. A step is forward, backward, clipping and AdamW. The shapes are a medium network:
SigLIP 256 × 6, language 512 × 6, expert 256 × 6, batch 4, two cameras and one blank, 60 of 200 prompt tokens,
horizon 50.

A repetition counts only where both sides had the cores: CPU time of at least 95 % of threads × wall time. CPU seconds
are reported beside. Between the steps the rate of a large matrix product is measured, and a step's rate is said as a
share of it: its products' arithmetic (attention's not counted) by its time.

    python benchmarks/train_step.py --lerobot-python /path/to/lerobot-env/bin/python --threads 2 --rounds 5

Prints a table and writes benchmarks/results/train_step_DATE.json. `benchmarks/open_with_lerobot.py` tells how such an
environment is made; it needs `lerobot[pi]==0.6.1`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).parent
CASES = ("full", "frozen-vision", "expert")
BATCH, CAMERAS, IMAGE_SIZE = 4, 2, 224
REAL_TOKENS, TOKENS = 60, 200
HORIZON, ROBOT_DIMS, ACTION_DIMS = 50, 7, 32
VOCABULARY = 8192
LEARNING_RATE, WEIGHT_DECAY, CLIP = 2.5e-5, 0.01, 1.0
SHAPES = {
    "vision": {"width": 256, "depth": 6, "mlp": 1024, "heads": 4},
    "language": {"width": 512, "depth": 6, "mlp": 2048, "heads": 8, "head_dim": 64, "kv_heads": 1},
    "expert": {"width": 256, "mlp": 1024},
}
LOSS_TOLERANCE = 1e-5
FULL_SHARE = 0.95
"""CPU time by threads × wall time from which on a repetition counts."""
PRODUCT = 2048
"""Rows and columns of the matrix product whose rate a step's is compared with."""


def main() -> int:
    """Parse the arguments, run both sides in turns, print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lerobot-python", required=True, help="Python of an environment with lerobot[pi]==0.6.1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--rounds", type=int, default=5, help="pairs of steps that must count per case, after one for warming up"
    )
    parser.add_argument("--tries", type=int, default=25, help="pairs of steps taken at most, whether they count or not")
    parser.add_argument("--cases", default=",".join(CASES), help="training methods, separated by commas")
    parser.add_argument("--compile", action="store_true", help="compile our layers with torch.compile")
    parser.add_argument("--serve", choices=("ours", "lerobot"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cases = arguments.cases.split(",")
    if not set(cases) <= set(CASES):
        parser.error(f"--cases={arguments.cases}: there are {', '.join(CASES)}")
    if arguments.serve:
        return serve(arguments)
    from pi05.machine import machine_info  # LeRobot's side, served above, has no pi05

    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder))
        result: dict[str, Any] = {
            "date": date.today().isoformat(),
            "machine": machine_info(),
            "threads": arguments.threads,
            "compile": arguments.compile,
            "shapes": {**SHAPES, "batch": BATCH, "prompt": [REAL_TOKENS, TOKENS], "horizon": HORIZON},
            "cases": {},
        }
        for case in cases:
            result["cases"][case] = compare(case, Path(folder), arguments, result)
            print(row(case, result["cases"][case]), flush=True)
    path = HERE / "results" / f"train_step_{'compiled_' * arguments.compile}{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path}")
    return 0 if all(report["same_loss"] and report["counted"] for report in result["cases"].values()) else 1


def write_inputs(folder: Path) -> None:
    """Write what both sides compute on: pictures, prompt, actions, noise, flow times."""
    rng = np.random.default_rng(0)
    actions = np.zeros((BATCH, HORIZON, ACTION_DIMS), np.float32)
    actions[..., :ROBOT_DIMS] = rng.standard_normal((BATCH, HORIZON, ROBOT_DIMS))
    mask = np.zeros((BATCH, TOKENS), bool)
    mask[:, :REAL_TOKENS] = True
    tokens = np.where(mask, rng.integers(2, VOCABULARY, (BATCH, TOKENS)), 0)
    arrays = {
        "images": rng.integers(0, 256, (BATCH, CAMERAS, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8),
        "tokens": tokens.astype(np.int64),
        "token_mask": mask,
        "actions": actions,
        "noise": rng.standard_normal((BATCH, HORIZON, ACTION_DIMS)).astype(np.float32),
        "time": rng.uniform(0.05, 0.95, BATCH).astype(np.float32),
    }
    save_file(arrays, folder / "inputs.safetensors")


def compare(case: str, folder: Path, arguments: argparse.Namespace, result: dict[str, Any]) -> dict[str, Any]:
    """Let both sides take turns and return times and losses."""
    sides = {
        name: Side(name, command_of(python, name, folder, arguments), folder, arguments.threads)
        for name, python in (("lerobot", arguments.lerobot_python), ("ours", sys.executable))
    }
    try:
        for side in sides.values():  # LeRobot first: it draws the weights that both use
            answer = side.ask(case)
            result.setdefault("versions", {})[side.name] = answer["versions"]
        first = {name: side.ask("step") for name, side in sides.items()}
        flops = sides["ours"].ask("flops")["flops"]
        pairs: list[dict[str, dict[str, float]]] = []
        while sum(map(counts, pairs)) < arguments.rounds and len(pairs) < arguments.tries:
            pair = {name: side.ask("step") for name, side in sides.items()}
            pairs.append({**pair, "product": sides["ours"].ask("product")})
    finally:
        for side in sides.values():
            side.close()
    differ = abs(first["lerobot"]["loss"] - first["ours"]["loss"])
    return {
        "repetitions": pairs,
        "tflop": flops / 1e12,
        "first_loss_difference": differ,
        "same_loss": differ <= LOSS_TOLERANCE,
        **summary([pair for pair in pairs if counts(pair)], flops),
    }


def counts(pair: dict[str, dict[str, float]]) -> bool:
    """Tell whether both sides had the cores."""
    return all(pair[name]["cpu_share"] >= FULL_SHARE for name in ("lerobot", "ours"))


def summary(counted: list[dict[str, dict[str, float]]], flops: int) -> dict[str, Any]:
    """Return medians over the repetitions that count: seconds, CPU seconds, ratios, share of the product's rate."""
    if not counted:
        return {"counted": 0}

    def median(name: str, key: str) -> float:
        return statistics.median(pair[name][key] for pair in counted)

    def ratio(key: str) -> float:
        return statistics.median(pair["lerobot"][key] / pair["ours"][key] for pair in counted)

    free = [pair for pair in counted if pair["product"]["cpu_share"] >= FULL_SHARE]
    rates = [pair["product"]["flops"] / pair["product"]["seconds"] for pair in free]
    return {
        "counted": len(counted),
        "seconds": {name: median(name, "seconds") for name in ("lerobot", "ours")},
        "cpu_seconds": {name: median(name, "cpu_seconds") for name in ("lerobot", "ours")},
        "ratio": ratio("seconds"),
        "ratio_cpu": ratio("cpu_seconds"),
        "gflops_per_second": flops / median("ours", "seconds") / 1e9,
        "product_gflops_per_second": statistics.median(rates) / 1e9 if rates else None,
        "share_of_product": flops / median("ours", "seconds") / statistics.median(rates) if rates else None,
        "product_repetitions": len(rates),
    }


class Side:
    """One of the processes: it answers words."""

    def __init__(self, name: str, words: list[str], folder: Path, threads: int) -> None:
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )

    def ask(self, word: str) -> dict[str, Any]:
        """Send one word and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit(f"the side {self.name} ended with {self.process.wait()}")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def command_of(python: str, name: str, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Return the command line of a side."""
    words = [python, __file__, "--serve", name, "--folder", str(folder), "--lerobot-python", "-"]
    return [*words, "--threads", str(arguments.threads), *(["--compile"] if arguments.compile else [])]


def serve(arguments: argparse.Namespace) -> int:
    """Be one side: build on the first word, then one timed step per line."""
    import torch

    torch.set_num_threads(arguments.threads)
    case: Any = sys.stdin.readline().strip()  # one of CASES
    if arguments.serve == "lerobot":
        from train_step_lerobot import build, versions

        step = build(case, arguments.folder)
    else:
        from train_step_ours import build_ours, versions

        step = build_ours(case, arguments.folder, arguments.compile)
    print(json.dumps({"versions": versions()}), flush=True)
    answers: dict[str, Callable[[], dict[str, Any]]] = {
        "step": lambda: {"loss": step()},
        "product": product_of(arguments.threads),
        "flops": lambda: count(step),
    }
    return answer_words(answers, arguments.threads)


def answer_words(answers: Mapping[str, Callable[[], dict[str, Any]]], threads: int) -> int:
    """Answer each line of standard input with what the function of its word returns, and the time that took."""
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        answer = answers[line.strip()]()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        times = {"seconds": wall, "cpu_seconds": cpu, "cpu_share": cpu / wall / threads}
        print(json.dumps({**times, **answer}), flush=True)
    return 0


def product_of(threads: int) -> Callable[[], dict[str, float]]:
    """Return a function that multiplies large matrices for half a second, and tells the operations."""
    import torch

    left, right = torch.randn(2, PRODUCT, PRODUCT)
    out, times = torch.empty(PRODUCT, PRODUCT), 3 * threads

    def multiply() -> dict[str, float]:
        for _ in range(times):
            torch.mm(left, right, out=out)
        return {"flops": times * 2 * PRODUCT**3}

    multiply()
    return multiply


def count(step: Callable[[], float]) -> dict[str, float]:
    """Take a step and return the operations of its matrix products; attention has no count on a CPU."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return {"flops": counter.get_total_flops()}


def row(case: str, report: dict[str, Any]) -> str:
    """Return one line of the table."""
    if not report["counted"]:
        return f"{case:14} no repetition counts: another program had the cores"
    seconds, share = report["seconds"], report["share_of_product"]
    return (
        f"{case:14} LeRobot {seconds['lerobot']:6.2f} s   pi05 {seconds['ours']:6.2f} s   {report['ratio']:.2f} × "
        f"(CPU seconds {report['ratio_cpu']:.2f} ×), {report['counted']} of {len(report['repetitions'])} repetitions; "
        f"{'rate not measured' if share is None else format(share, '.0%') + ' of the matrix rate'}; "
        f"losses differ by {report['first_loss_difference']:.1e}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
