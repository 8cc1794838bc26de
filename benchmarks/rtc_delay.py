"""What a delay of chunks costs on the table-top simulator: standing still, jumping, guided, trained.

    python benchmarks/rtc_delay.py
    python benchmarks/rtc_delay.py --checkpoint RUN --data DATA     # no training: of an earlier call, or any policy

Fine-tunes the packaged base, on tasks that it knows already, with a chunk of 16 actions instead of 10 and
`--rtc_max_delay=9`. The same policy is then evaluated in every way of chunking with delays of 0, 2, 4 and 8 control
steps, 8 actions from look to look, on the same layouts with the same noise. So the ways differ in nothing else; the
first three work with any policy. Of one that was trained without delays, or has a shorter chunk, what it cannot do is
left out, and half of its chunk lies between two looks. A seam is compared with the demonstrations' own largest step
between two commands, and the policy's largest seam of an episode with its median over the episodes.

Prints a table and writes benchmarks/results/rtc_delay_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pi05 import presets
from pi05.data.lerobot.reader import Dataset
from pi05.eval.config import Chunking, EvalConfig
from pi05.eval.evaluate import evaluate_policy
from pi05.eval.result import EvalResult
from pi05.machine import machine_info
from pi05.policy import Policy
from pi05.policy_choice import ChosenPolicy
from pi05.sim.collect import collect_demonstrations
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import expert_maker
from pi05.train.config import TrainConfig
from pi05.train.loop import train

RESULTS = Path(__file__).parent / "results"
FAMILY: Literal["base"] = "base"
HORIZON, EXECUTED, MAX_DELAY = 16, 8, 9
LEARNING_RATE = 3e-4
DELAYS = (0, 2, 4, 8)


def main() -> int:
    """Parse the arguments, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="a policy to measure, instead of training one")
    parser.add_argument("--data", type=Path, help="with --checkpoint: demonstrations to compare with")
    parser.add_argument("--demonstrations", type=int, default=300)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where data and run are kept; a temporary folder when not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        run = arguments.checkpoint or make(arguments, folder)
        own = largest_steps(arguments.data or folder / "data")
        policy = Policy.load(run)
        executed = min(EXECUTED, policy.processor.horizon // 2)
        rows = [
            measure(policy, executed, chunking, delay, arguments, folder)
            for delay in DELAYS
            for chunking in get_args(Chunking)
            if possible(policy, executed, chunking, delay)
        ]
    names = ("x_m", "y_m", "opening")
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "settings": {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)},
        "policy": policy.provenance,
        "horizon": policy.processor.horizon,
        "executed": executed,
        "rtc_max_delay": policy.max_delay,
        "demonstrations_largest_step": dict(zip(names, own.tolist(), strict=True)),
        "rows": rows,
    }
    print(f"the demonstrations' own largest step: {own[0]:.3f} m in x, {own[1]:.3f} m in y")
    for row in rows:
        print(line(row))
    path = RESULTS / f"rtc_delay_{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")
    return 0 if all(max(np.array(row["largest_seam"])[:2] / own[:2]) < 1 for row in rows) else 1


def possible(policy: Policy, executed: int, chunking: Chunking, delay: int) -> bool:
    """Tell whether the policy can do that, and whether it is something new: without a delay two ways are naive's."""
    if delay == 0:
        return chunking in ("synchronous", "guided")
    fits = delay <= executed and executed + delay <= policy.processor.horizon
    return fits and (chunking != "trained" or delay < policy.max_delay)


def make(arguments: argparse.Namespace, folder: Path) -> Path:
    """Collect demonstrations, fine-tune, and return the run."""
    data = folder / "data"
    if not data.exists():
        collect_demonstrations(expert_maker(DemonstrationChoice(family=FAMILY)), arguments.demonstrations, data, 0)
    preset = presets.demo()
    config: TrainConfig = replace(
        preset,
        policy=replace(preset.policy, chunk_size=HORIZON, n_action_steps=EXECUTED, optimizer_lr=LEARNING_RATE),
        dataset=replace(preset.dataset, root=str(data), cache_dir=str(folder / "frames")),
        output_dir=str(folder / "run"),
        rtc_max_delay=MAX_DELAY,
        steps=arguments.steps,
        save_freq=arguments.steps,
        eval_steps=arguments.steps,
        threads=arguments.threads,
    )
    return train(config).run_dir


def largest_steps(root: Path) -> np.ndarray:
    """Return the largest step between two commands of a demonstration, per action dimension."""
    dataset = Dataset(root)
    steps = np.abs(np.diff(dataset.actions(), axis=0))
    steps[[episode.start - 1 for episode in dataset.episodes[1:]]] = 0  # from one demonstration to the next
    return np.asarray(steps.max(axis=0), np.float64)


def measure(
    policy: Policy, executed: int, chunking: Chunking, delay: int, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Evaluate one way of chunking at one delay."""
    config = EvalConfig(
        policy=ChosenPolicy(n_action_steps=executed),
        family=FAMILY,
        episodes=arguments.episodes,
        num_envs=arguments.episodes,
        delay=delay,
        chunking=chunking,
        threads=arguments.threads,
        films=0,
        output_dir=str(folder / f"eval-{chunking}-{delay}-{time.time_ns()}"),
    )
    cpu = time.process_time()
    result: EvalResult = evaluate_policy(config, policy=policy, console=False)
    seams = [list(episode.seam) for episode in result.counted if episode.seam is not None]
    row = {
        "chunking": chunking,
        "delay": delay,
        "success": result.success.to_dict(),
        "largest_seam": result.largest_seam,
        "median_of_largest_seams": [statistics.median(each) for each in zip(*seams, strict=True)],
        "steps_of_a_success": result.lengths.get("median"),
        "cpu_seconds": time.process_time() - cpu,
    }
    print(line(row), flush=True)
    return row


def line(row: dict[str, Any]) -> str:
    """Return one line of the table."""
    rate, seam, middle = row["success"], row["largest_seam"], row["median_of_largest_seams"]
    return (
        f"delay {row['delay']}  {row['chunking']:12} {rate['successes']:3}/{rate['trials']}  seam at most "
        f"{max(seam[:2]):.3f} m, median of the episodes {max(middle[:2]):.3f} m  {row['cpu_seconds']:.0f} CPU s"
    )


if __name__ == "__main__":
    raise SystemExit(main())
