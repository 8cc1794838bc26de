"""Time one training step against LeRobot's, on the same weights, pictures, prompts and noise, in float32 on a CPU.

Each side is a process of its own (LeRobot in its Python 3.12 environment); they take turns, A B A B, in one run, so
that a busy machine disturbs both. A step is forward, backward, clipping and AdamW. The shapes are a medium network:
SigLIP 256 × 6, language 512 × 6, expert 256 × 6, batch 4, two cameras and one blank, 60 of 200 prompt tokens,
horizon 50.

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


def main() -> int:
    """Parse the arguments, run both sides in turns, print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lerobot-python", required=True, help="Python of an environment with lerobot[pi]==0.6.1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--rounds", type=int, default=5, help="timed steps of each side per case, after one for warming up"
    )
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
    path = HERE / "results" / f"train_step_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path}")
    return 0 if all(report["same_loss"] for report in result["cases"].values()) else 1


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
        "lerobot": Side(arguments.lerobot_python, "lerobot", folder, arguments),
        "ours": Side(sys.executable, "ours", folder, arguments),
    }
    try:
        for side in sides.values():  # LeRobot first: it draws the weights that both use
            answer = side.ask(case)
            result.setdefault("versions", {})[side.name] = answer["versions"]
        steps: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for _ in range(arguments.rounds + 1):
            for name, side in sides.items():
                steps[name].append(side.ask("step"))
    finally:
        for side in sides.values():
            side.close()
    timed = {name: [step["seconds"] for step in taken[1:]] for name, taken in steps.items()}
    best = {name: min(seconds) for name, seconds in timed.items()}
    ratios = [theirs / ours for theirs, ours in zip(timed["lerobot"], timed["ours"], strict=True)]
    losses = {name: [step["loss"] for step in taken] for name, taken in steps.items()}
    first = abs(losses["lerobot"][0] - losses["ours"][0])
    return {
        "seconds": timed,
        "best_seconds": best,
        "cpu_share": {name: [round(step["cpu_share"], 2) for step in taken[1:]] for name, taken in steps.items()},
        "ratio_of_best": best["lerobot"] / best["ours"],
        "ratio_median_of_pairs": statistics.median(ratios),
        "losses": losses,
        "first_loss_difference": first,
        "same_loss": first <= LOSS_TOLERANCE,
    }


class Side:
    """One of the two processes."""

    def __init__(self, python: str, name: str, folder: Path, arguments: argparse.Namespace) -> None:
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
        words = [python, __file__, "--serve", name, "--folder", str(folder), "--lerobot-python", "-"]
        words += ["--threads", str(arguments.threads), *(["--compile"] if arguments.compile else [])]
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
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"seconds": wall, "cpu_share": cpu / wall / arguments.threads, "loss": loss}), flush=True)
    return 0


def row(case: str, report: dict[str, Any]) -> str:
    """Return one line of the table."""
    best, differ = report["best_seconds"], report["first_loss_difference"]
    return (
        f"{case:14} LeRobot {best['lerobot']:6.2f} s   pi05 {best['ours']:6.2f} s   {report['ratio_of_best']:.2f} × "
        f"(median of pairs {report['ratio_median_of_pairs']:.2f} ×)   losses differ by {differ:.1e}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
