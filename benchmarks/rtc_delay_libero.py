"""What a delay of chunks costs in LIBERO: standing still, jumping, guided, trained.

    python benchmarks/rtc_delay_libero.py --data DATA --start CHECKPOINT      both from benchmarks/libero_end_to_end.py

As `rtc_delay.py` on the table-top: the policy is fine-tuned for longer chunks and `--rtc_max_delay`, and then evaluated
in every way of chunking with delays of 0, 2, 4 and 8 actions (held for two control steps each), in the same initial
states. Seams are compared with the demonstrations' own largest step between two commands: positions and rotations of
the hand, where demonstrations have any, the gripper's command left out, which jumps from -1 to 1 in them, too. Writes
benchmarks/results/rtc_delay_libero_DATE.json after every row.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

from rtc_delay import DELAYS, EXECUTED, HORIZON, LEARNING_RATE, MAX_DELAY, RESULTS, largest_steps, possible

from pi05.demo.libero import LiberoPlan, evaluation, training
from pi05.eval.config import Chunking
from pi05.eval.evaluate import evaluate_policy
from pi05.machine import machine_info
from pi05.policy import Policy
from pi05.train.loop import train

HAND = 6
"""Dimensions of an action that move the hand; the last one is the gripper."""


def main() -> None:
    """Parse the arguments, train, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="demonstrations")
    parser.add_argument("--start", type=Path, help="a policy that was trained on them, instead of the packaged base")
    parser.add_argument("--run", type=Path, help="an earlier call's run, instead of training")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--episodes-per-task", type=int, default=5)
    parser.add_argument("--delays", type=int, nargs="+", default=list(DELAYS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, required=True, help="where run and evaluations are kept")
    arguments = parser.parse_args()
    run = arguments.run or make(arguments)
    policy = Policy.load(run)
    executed = min(EXECUTED, policy.processor.horizon // 2)
    own = largest_steps(arguments.data)[:HAND]
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "settings": {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)},
        "horizon": policy.processor.horizon,
        "executed": executed,
        "rtc_max_delay": policy.max_delay,
        "demonstrations_largest_step": own.tolist(),
        "rows": [],
    }
    for delay in arguments.delays:
        for chunking in get_args(Chunking):
            if possible(policy, executed, chunking, delay):
                result["rows"].append(measure(run, executed, chunking, delay, arguments, own.tolist()))
                path = RESULTS / f"rtc_delay_libero_{result['date']}.json"
                path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


def make(arguments: argparse.Namespace) -> Path:
    """Fine-tune for delays, and return the run."""
    plan = LiberoPlan(steps=arguments.steps, data=arguments.data, learning_rate=LEARNING_RATE, n_action_steps=EXECUTED)
    plan = plan if arguments.start is None else replace(plan, base=arguments.start)
    folder = arguments.folder
    config = training(plan, arguments.data, folder / "run", folder / "frames", 0, arguments.threads)
    policy = replace(config.policy, chunk_size=HORIZON)
    config = replace(config, policy=policy, rtc_max_delay=MAX_DELAY, eval_steps=arguments.steps)
    return train(config).run_dir


def measure(
    run: Path, executed: int, chunking: Chunking, delay: int, arguments: argparse.Namespace, own: list[float]
) -> dict[str, Any]:
    """Evaluate one way of chunking at one delay."""
    plan = LiberoPlan(n_action_steps=executed, episodes_per_task=arguments.episodes_per_task, workers=arguments.workers)
    output = arguments.folder / f"eval-{chunking}-{delay}"
    config = replace(evaluation(plan, run, output, 0, arguments.threads), delay=delay, chunking=chunking)
    result = evaluate_policy(replace(config, resume=output.exists()))
    seams = [list(episode.seam)[:HAND] for episode in result.counted if episode.seam is not None]
    largest = [max(each) for each in zip(*seams, strict=True)]
    row = {
        "chunking": chunking,
        "delay": delay,
        "success": result.success.to_dict(),
        "largest_seam": largest,
        "median_of_largest_seams": [statistics.median(each) for each in zip(*seams, strict=True)],
        "largest_seam_over_demonstrations": max(
            seam / step for seam, step in zip(largest, own, strict=True) if step > 0
        ),
        "wall_s": result.wall_s,
    }
    rate = row["success"]
    print(
        f"delay {delay}  {chunking:12} {rate}  seam {row['largest_seam_over_demonstrations']:.2f} of the largest step"
    )
    return row


if __name__ == "__main__":
    main()
