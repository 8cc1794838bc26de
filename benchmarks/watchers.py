"""What watching a run costs: steps with the watchers and without, in one process that alternates between the two.

Both sides take the trainer's own step on the same network and the same batches of table-top demonstrations, one block
of steps after the other (A B A B …), on one thread; the watched blocks do all that `train/session.py` does with
`train/watchers`, a record at the end of each block included. CPU seconds are compared, so that other programs on the
machine matter little. The packaged network is the worst case: watching costs the same on one a thousand times as large.

    OMP_NUM_THREADS=1 python benchmarks/watchers.py --rounds 20

Prints the ratio, also of the held-out measurement, and writes benchmarks/results/watchers_DATE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pi05.checkpoint.load import load_model
from pi05.checkpoint.locate import locate
from pi05.machine import machine_info
from pi05.sim.collect import collect_demonstrations
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import expert_maker
from pi05.train.config import TINY_BASE, DatasetConfig, TrainConfig
from pi05.train.data import TrainingData, build_data, build_loader
from pi05.train.faults import BatchOrigin
from pi05.train.optim.adamw import AdamSettings, AdamW
from pi05.train.parameters import freeze
from pi05.train.policy_config import PolicyConfig
from pi05.train.resume import OpenRun, build_schedule
from pi05.train.step import TrainState, loss_settings, train_step
from pi05.train.validate import NUM_STEPS, Validator
from pi05.train.watchers.watch import Watch

HERE = Path(__file__).parent
EPISODES = 40


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="blocks of each side")
    parser.add_argument("--steps", type=int, default=10, help="steps in a block, which a record follows")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--output", type=Path, default=HERE / "results" / f"watchers_{date.today()}.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), asked.rounds, asked.steps, asked.batch_size)
    asked.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in result.items() if name != "machine"}, indent=2))


def measure(folder: Path, rounds: int, steps: int, batch_size: int) -> dict[str, Any]:
    """Return CPU seconds of both sides, block by block, and the ratio of their medians."""
    collect_demonstrations(expert_maker(DemonstrationChoice()), EPISODES, folder / "data")
    config = TrainConfig(
        policy=PolicyConfig(path=str(TINY_BASE)),
        dataset=DatasetConfig(root=str(folder / "data"), cache_dir=str(folder / "cache")),
        precision="float32",
        batch_size=batch_size,
        steps=100 * rounds * steps,
        log_freq=steps,
        num_workers=0,
    )
    run = OpenRun(root=folder / "run", base=locate(TINY_BASE))
    model = load_model(TINY_BASE)
    data = build_data(config, model.config, Console(quiet=True), run)
    parameters = freeze(model, "expert")  # a part is frozen, so that there is something to compare at each save
    state = TrainState(
        step=0, seed=0, model=model, optimizer=AdamW(parameters, AdamSettings(), build_schedule(config, {}))
    )
    watch = Watch(config, data, state, run, lambda record: None)
    started = time.process_time()
    blocks = alternate(config, data, state, watch, rounds, steps)
    medians = {side: statistics.median(seconds) for side, seconds in blocks.items()}
    shares = [inside / whole for inside, whole in zip(blocks["watchers"], blocks["watched"], strict=True)]
    ratios = [a / b for a, b in zip(blocks["watched"], blocks["plain"], strict=True)]
    return {
        "date": str(date.today()),
        "network": "pi05-tiny, expert trained",
        "batch_size": batch_size,
        "steps_per_block_and_record": steps,
        "rounds": rounds,
        "cpu_seconds_in_all": round(time.process_time() - started, 1),
        "median_cpu_seconds_per_step": {side: value / steps for side, value in medians.items()},
        "share_of_a_step_inside_the_watchers": {"median": statistics.median(shares), "most": max(shares)},
        "ratio_of_medians": medians["watched"] / medians["plain"],
        "median_of_ratios": statistics.median(ratios),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "cpu_seconds_of_a_save_check": seconds_of(watch.before_saving),
        "held_out": measurement(data, state),
        "machine": machine_info(),
    }


def alternate(
    config: TrainConfig, data: TrainingData, state: TrainState, watch: Watch, rounds: int, steps: int
) -> dict[str, list[float]]:
    """Return the CPU seconds of each block of both sides, and those inside the watchers.

    The first block of each is thrown away.
    """
    settings = loss_settings(config, data.processor.robot_action_dim)
    stream = iter(build_loader(config, data))
    blocks: dict[str, list[float]] = {"watched": [], "plain": []}
    inside: list[float] = []
    for number in range(rounds + 1):
        for side, kept in blocks.items():
            dealt = [next(stream) for _ in range(steps)]
            state.step = 0 if number == 0 else state.step - state.step % steps
            watched = side == "watched"

            spent: list[float] = []

            def block(dealt: list[Any] = dealt, watched: bool = watched, spent: list[float] = spent) -> None:
                for batch, info in dealt:
                    if watched:
                        spent.append(seconds_of(partial(watch.begin, [batch])))
                    result = train_step(state, [batch], settings)
                    if watched:
                        origin = BatchOrigin(frames=info.frame_indices.tolist(), episodes=info.episodes.tolist())
                        spent.append(seconds_of(partial(watch.end, result, [batch], origin)))
                if watched:
                    spent.append(seconds_of(watch.read))

            seconds = seconds_of(block)
            if number:
                kept.append(seconds)
                if watched:
                    inside.append(sum(spent))
    return blocks | {"watchers": inside}


def measurement(data: TrainingData, state: TrainState) -> dict[str, float]:
    """Return the CPU seconds of a held-out measurement, and those of taking its inputs away."""
    validator = Validator(data, max_frames=256, batch_size=32)
    device = torch.device("cpu")
    whole = seconds_of(lambda: validator.measure(state.model, device))
    effects = seconds_of(lambda: validator.ablations.measure(state.model, device, NUM_STEPS))
    return {"cpu_seconds": whole, "of_it_taking_inputs_away": effects, "share": effects / whole}


def seconds_of(work: Callable[[], object]) -> float:
    """Return the CPU seconds of some work."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
