"""Time one action chunk against LeRobot's `predict_action_chunk`: the same weights, inputs and noise, on a CPU.

Each side is a process of its own (LeRobot in its Python 3.12 environment); they take turns, A B A B, in one run. The
shapes are the medium network of `train_step.py` with batch 1, one to three cameras, 60 of 200 prompt tokens, a horizon
of 50 and ten denoising steps. Both start from the network's own inputs: decoding, resizing and the tokenizer are left
out. A repetition counts only where every side had the cores, CPU time of at least 95 % of threads × wall time; CPU
seconds are reported beside. LeRobot's actions are the reference of the greatest difference.

    python benchmarks/inference.py --lerobot-python /path/to/lerobot-env/bin/python --threads 2
    python benchmarks/inference.py --lerobot-python … --ours plain,compiled,bfloat16,int8 --cameras 2
    python benchmarks/inference.py --ours plain,compiled          # without LeRobot: `plain` is the reference

Prints a table and writes benchmarks/results/inference_DATE.json. `benchmarks/open_with_lerobot.py` tells how such an
environment is made; it needs `lerobot[pi]==0.6.1`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import train_step as shapes
from safetensors.numpy import save_file

HERE = Path(__file__).parent
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compiled": {"compile": True},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16-compiled": {"precision": "bfloat16", "compile": True},
    "int8": {"precision": "int8"},
}
NUM_STEPS = 10


def main() -> int:
    """Parse the arguments, let the sides take turns, print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lerobot-python", help="Python of an environment with lerobot[pi]==0.6.1")
    parser.add_argument("--ours", default="plain,compiled", help=f"ways, separated by commas: {', '.join(WAYS)}")
    parser.add_argument("--cameras", default="1,2,3", help="numbers of cameras, separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20, help="rounds that must count per number of cameras")
    parser.add_argument("--tries", type=int, default=60, help="rounds taken at most, whether they count or not")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, int(arguments.cameras), arguments)
    from pi05.machine import machine_info  # LeRobot's side, served above, has no pi05

    names = [*(["lerobot"] if arguments.lerobot_python else []), *arguments.ours.split(",")]
    if not set(names) <= {"lerobot", *WAYS}:
        parser.error(f"--ours={arguments.ours}: there are {', '.join(WAYS)}")
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "threads": arguments.threads,
        "shapes": {**shapes.SHAPES, "batch": 1, "prompt": [shapes.REAL_TOKENS, shapes.TOKENS], "steps": NUM_STEPS},
        "cameras": {},
    }
    for cameras in map(int, arguments.cameras.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            write_inputs(Path(folder), cameras)
            report = compare(names, cameras, Path(folder), arguments, result)
        result["cameras"][str(cameras)] = report
        for line in lines(cameras, names, report):
            print(line, flush=True)
    path = HERE / "results" / f"inference_{arguments.threads}_threads_{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")
    return 0


def write_inputs(folder: Path, cameras: int) -> None:
    """Write what all sides compute on: pictures, prompt, noise."""
    rng = np.random.default_rng(0)
    mask = np.zeros((1, shapes.TOKENS), bool)
    mask[:, : shapes.REAL_TOKENS] = True
    tokens = np.where(mask, rng.integers(2, shapes.VOCABULARY, mask.shape), 0)
    side = shapes.IMAGE_SIZE
    arrays = {
        "images": rng.integers(0, 256, (1, cameras, side, side, 3), np.uint8),
        "tokens": tokens.astype(np.int64),
        "token_mask": mask,
        "noise": rng.standard_normal((1, shapes.HORIZON, shapes.ACTION_DIMS)).astype(np.float32),
    }
    save_file(arrays, folder / "inputs.safetensors")


def compare(
    names: list[str], cameras: int, folder: Path, arguments: argparse.Namespace, result: dict[str, Any]
) -> dict[str, Any]:
    """Let the sides take turns and return times and differences."""
    sides: dict[str, shapes.Side] = {}
    try:
        for name in names:  # the first one writes the weights that all use
            python = arguments.lerobot_python if name == "lerobot" else sys.executable
            sides[name] = shapes.Side(
                name, command_of(python, name, cameras, folder, arguments.threads), folder, arguments.threads
            )
            result.setdefault("versions", {})[name] = sides[name].ask("build")["versions"]
        for side in (*sides.values(), *sides.values()):  # compilation, memory
            side.ask("chunk")
        flops = next(side for name, side in sides.items() if name == "plain" or name == names[-1]).ask("flops")["flops"]
        chunks = {name: np.array(side.ask("actions")["actions"]) for name, side in sides.items()}
        rounds: list[dict[str, dict[str, float]]] = []
        while sum(map(counts, rounds)) < arguments.rounds and len(rounds) < arguments.tries:
            rounds.append({name: side.ask("chunk") for name, side in sides.items()})
            rounds[-1]["product"] = sides[names[-1]].ask("product")
    finally:
        for side in sides.values():
            side.close()
    reference = chunks[names[0]]
    return {
        "rounds": rounds,
        "counted": sum(map(counts, rounds)),
        "gflop": flops / 1e9,
        "largest_action": float(np.abs(reference).max()),
        "difference": {name: float(np.abs(chunk - reference).max()) for name, chunk in chunks.items()},
        "counted_rounds": summary(names, [each for each in rounds if counts(each)]),
        "all_rounds": summary(names, rounds),
    }


def counts(one: dict[str, dict[str, float]]) -> bool:
    """Tell whether every side had the cores."""
    return all(side["cpu_share"] >= shapes.FULL_SHARE for name, side in one.items() if name != "product")


def summary(names: list[str], rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return percentiles of milliseconds, medians of CPU milliseconds, and ratios to the first side round by round."""
    if not rounds:
        return {}
    found: dict[str, Any] = {}
    for name in names:
        times = [1000 * one[name]["seconds"] for one in rounds]
        found[name] = {
            "ms": {f"p{share}": float(np.percentile(times, share)) for share in (50, 90, 99)},
            "cpu_ms": 1000 * statistics.median(one[name]["cpu_seconds"] for one in rounds),
            "ratio": statistics.median(one[names[0]]["seconds"] / one[name]["seconds"] for one in rounds),
            "ratio_cpu": statistics.median(one[names[0]]["cpu_seconds"] / one[name]["cpu_seconds"] for one in rounds),
        }
    rates = [one["product"]["flops"] / one["product"]["cpu_seconds"] for one in rounds]
    return {**found, "product_gflops_per_cpu_second": statistics.median(rates) / 1e9}


def lines(cameras: int, names: list[str], report: dict[str, Any]) -> list[str]:
    """Return the table of one number of cameras."""
    counted = report["counted_rounds"]
    shown, what = (
        (counted, f"{report['counted']} rounds count") if counted else (report["all_rounds"], "NO ROUND COUNTS")
    )
    rows = [f"{cameras} camera{'s' * (cameras > 1)}, {report['gflop']:.1f} GFLOP in products; {what}"]
    for name in names:
        one = shown[name]
        rate = report["gflop"] / (one["cpu_ms"] / 1000) / shown["product_gflops_per_cpu_second"]
        rows.append(
            f"  {name:18} p50 {one['ms']['p50']:7.1f} ms  p90 {one['ms']['p90']:7.1f}  p99 {one['ms']['p99']:7.1f}  "
            f"CPU {one['cpu_ms']:7.1f} ms  {one['ratio']:.2f} × (CPU {one['ratio_cpu']:.2f} ×)  "
            f"{rate:.0%} of the matrix rate  actions differ by {report['difference'][name]:.1e}"
        )
    return rows


def command_of(python: str, name: str, cameras: int, folder: Path, threads: int) -> list[str]:
    """Return the command line of a side."""
    words = [python, __file__, "--serve", name, "--folder", str(folder), "--cameras", str(cameras)]
    return [*words, "--threads", str(threads)]


def serve(name: str, cameras: int, arguments: argparse.Namespace) -> int:
    """Be one side: build on the first word, then answer one word per line, with the time that it took."""
    import torch

    torch.set_num_threads(arguments.threads)
    sys.stdin.readline()
    if name == "lerobot":
        from train_step_lerobot import versions

        chunk = build_lerobot(arguments.folder, cameras)
    else:
        from train_step_ours import versions

        chunk = build_ours(arguments.folder, WAYS[name])
    print(json.dumps({"versions": versions()}), flush=True)

    def timed() -> dict[str, Any]:
        chunk()
        return {}

    answers: dict[str, Callable[[], dict[str, Any]]] = {
        "chunk": timed,
        "actions": lambda: {"actions": chunk().tolist()},
        "flops": lambda: shapes.count(lambda: float(chunk().sum())),
        "product": shapes.product_of(arguments.threads),
    }
    return shapes.answer_words(answers, arguments.threads)


def build_lerobot(folder: Path, cameras: int) -> Callable[[], Any]:
    """Return LeRobot's `predict_action_chunk` on a policy of medium size, whose weights are written for the others."""
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.pi05 import modeling_pi05
    from lerobot.policies.pi05.configuration_pi05 import PI05Config
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save
    from train_step_lerobot import randomise, resize_networks

    resize_networks()
    image = PolicyFeature(type=FeatureType.VISUAL, shape=(3, shapes.IMAGE_SIZE, shapes.IMAGE_SIZE))
    config = PI05Config(
        device="cpu",
        dtype="float32",
        chunk_size=shapes.HORIZON,
        n_action_steps=shapes.HORIZON,
        num_inference_steps=NUM_STEPS,
        tokenizer_max_length=shapes.TOKENS,
        input_features={f"observation.images.camera{i}": image for i in range(cameras)},
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(shapes.ROBOT_DIMS,))},
    )
    policy = modeling_pi05.PI05Policy(config)
    policy.eval()
    randomise(policy)
    save({name: value.clone() for name, value in policy.state_dict().items()}, folder / "model.safetensors")
    given = load_file(folder / "inputs.safetensors")
    batch: dict[str, Any] = {
        f"observation.images.camera{i}": given["images"][:, i].permute(0, 3, 1, 2).float() / 255 for i in range(cameras)
    }
    batch["observation.language.tokens"] = given["tokens"]
    batch["observation.language.attention_mask"] = given["token_mask"]
    return lambda: policy.predict_action_chunk(batch, noise=given["noise"])[0].detach()


def build_ours(folder: Path, way: dict[str, Any]) -> Callable[[], Any]:
    """Return our sampling of the robot's dimensions, as `Policy.infer_batch` calls it."""
    import torch
    from safetensors.torch import load_file
    from train_step_ours import sizes

    from pi05.checkpoint.load import load_model
    from pi05.machine import keep_freed_memory
    from pi05.model.inference import set_up_inference
    from pi05.model.pi05 import Pi05
    from pi05.types import Batch

    weights = folder / "model.safetensors"
    if weights.exists():
        model = load_model(weights, config=sizes())
    else:  # no LeRobot: the same draws in every way
        model = Pi05(sizes())
        model.initialize(torch.Generator().manual_seed(1))
        for parameter in model.parameters():
            parameter.data += 0.02
    keep_freed_memory()  # as `pi05 serve` does
    set_up_inference(model.eval(), **way)
    given = load_file(folder / "inputs.safetensors")
    batch = Batch(
        images=given["images"], image_mask=None, tokens=given["tokens"], token_mask=given["token_mask"]
    )  # trimmed by every call, as the collator does

    def chunk() -> torch.Tensor:
        with torch.no_grad():
            actions = model.sample_actions(batch, noise=given["noise"], num_steps=NUM_STEPS)
        return actions[0, :, : shapes.ROBOT_DIMS]

    return chunk


if __name__ == "__main__":
    raise SystemExit(main())
