"""How often `numbers.zero` and `numbers.units` are right, on data that their thresholds were not set on.

    python benchmarks/check_thresholds.py

Their thresholds were set on the sets of `check_alarms.py` and on the copies of `altered_copies.py`. Here they judge
robots of other seeds (`random_robots.py`), and, of the real LIBERO, means and ends of the range of each of its 1,693
episodes (`../shared/datasets/libero_v21_meta_only`, its metadata alone; where an episode starts is not among these, and
its mean stands for it, which makes `numbers.zero` less strict than it is). Of both: nothing may be said of them as they
are, and something after one joint's zero was moved from some episode on, or some episodes were put in another unit.
Writes benchmarks/results/check_thresholds_DATE.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from random_robots import draw_robot, record

from pi05.check.numbers.measure import Dimension, Measured, measure
from pi05.check.numbers.signals import Signals
from pi05.check.numbers.units import judge_units
from pi05.check.numbers.zero import FEWEST_BESIDE, judge_zero
from pi05.check.subject import Subject
from pi05.machine import machine_info

LIBERO = Path(__file__).resolve().parents[2] / "shared" / "datasets" / "libero_v21_meta_only"
FIRST_SEED = 1000
"""`check_alarms.py` has the seeds from 0 on."""
SHIFTS = (0.25, 0.5, 1.0, 2.0)
"""Times what the joint moves in an episode."""
FACTORS = {"degrees": 180 / np.pi, "millimetres": 1000.0}
SHARES = (0.1, 0.25, 0.5)
"""Of the episodes that are in another unit."""
RUNS = (8, 12, 20, 40, 80)
"""Episodes of LIBERO that make a set."""


def main() -> None:
    """Judge, count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--robots", type=int, default=60, help="made-up robots")
    parser.add_argument("--runs", type=int, default=200, help="sets of LIBERO's episodes")
    arguments = parser.parse_args()
    kinds = {"made-up robots": made_up(arguments.robots), "LIBERO": libero(arguments.runs)}
    result = {"date": date.today().isoformat(), "machine": machine_info()}
    result |= {kind: judge_all(list(sets)) for kind, sets in kinds.items()}
    path = Path(__file__).parent / "results" / f"check_thresholds_{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({kind: result[kind] for kind in kinds}, indent=1))
    print(path)


def made_up(count: int) -> Iterator[Measured]:
    """Yield what is measured of robots of other seeds."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        rng = np.random.default_rng([seed, 3])
        robot = draw_robot(seed, episodes=int(rng.integers(2 * FEWEST_BESIDE, 30)), seconds=float(rng.uniform(4, 10)))
        states, actions, _ = zip(*record(robot), strict=True)
        starts = np.cumsum([0, *(len(state) for state in states)])
        dataset = SimpleNamespace(
            fps=robot.fps,
            num_episodes=len(states),
            episodes=[SimpleNamespace(start=int(a), length=len(s)) for a, s in zip(starts, states, strict=False)],
            state_names=list(robot.names),
            action_names=list(robot.names),
            states=lambda states=states: np.concatenate(states),
            actions=lambda actions=actions: np.concatenate(actions),
        )
        subject = SimpleNamespace(dataset=dataset, episodes=range(len(states)))
        yield measure(Signals(cast(Subject, subject)))


def libero(count: int) -> Iterator[Measured]:
    """Yield neighbouring episodes of LIBERO, and episodes of one task."""
    lines = (LIBERO / "meta" / "episodes_stats.jsonl").read_text().splitlines()
    parts = [json.loads(line)["stats"]["state"] for line in lines]
    means, lows, highs = (np.array([part[key] for part in parts]) for key in ("mean", "min", "max"))
    tasks: dict[str, list[int]] = {}
    for line in (LIBERO / "meta" / "episodes.jsonl").read_text().splitlines():
        tasks.setdefault(json.loads(line)["tasks"][0], []).append(json.loads(line)["episode_index"])
    rng = np.random.default_rng(0)
    for number in range(count):
        pool = sorted(tasks.values())[number % len(tasks)] if number % 2 else range(len(parts))
        length = min(int(rng.choice(RUNS)), len(pool))
        first = int(rng.integers(0, len(pool) - length + 1))
        chosen = [pool[place] for place in range(first, first + length)]
        names = ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper1", "gripper2"]
        yield gathered([_dimension(n, name, means, lows, highs, chosen) for n, name in enumerate(names)], length)


def _dimension(
    number: int, name: str, means: np.ndarray, lows: np.ndarray, highs: np.ndarray, chosen: Sequence[int]
) -> Dimension:
    mean, low, high = (each[chosen, number] for each in (means, lows, highs))
    none = np.array([], np.int64)
    return Dimension(
        kind="state",
        number=number,
        name=name,
        low=float(low.min()),
        high=float(high.max()),
        reach=float(high.max() - low.min()),
        is_switch=False,
        follows=1.0,
        changes=1.0,
        frozen=np.zeros(len(chosen), bool),
        means=mean,
        spans=high - low,
        firsts=mean,
        lows=low,
        highs=high,
        far=none,
        spikes=none,
        jumps=none,
        wraps=none,
    )


def gathered(dimensions: list[Dimension], episodes: int) -> Measured:
    """Return dimensions as what was measured of a set of so many episodes."""
    signals = cast(Signals, SimpleNamespace(episodes=list(range(episodes))))
    none = np.array([])
    still = np.array([], bool)
    return Measured(signals=signals, dimensions=dimensions, still=still, from_last=none, to_second=none, to_third=none)


def judge_all(sets: list[Measured]) -> dict[str, Any]:
    """Return how often each of the two speaks: of sets as they are, and of altered ones."""
    rng = np.random.default_rng(1)
    told: dict[str, Any] = {"sets": len(sets)}
    told["numbers.zero, nothing altered"] = share(bool(list(judge_zero(each))) for each in sets)
    told["numbers.units, nothing altered"] = share(bool(list(judge_units(each))) for each in sets)
    for times in SHIFTS:
        told[f"numbers.zero, by {times} of an episode's range"] = share(_zero_is_found(e, times, rng) for e in sets)
    for unit, factor in FACTORS.items():
        for part in SHARES:
            found = share(_unit_is_found(each, factor, part, rng) for each in sets)
            told[f"numbers.units, {unit} in {part:.0%}"] = found
    return told


def share(found: Iterator[bool]) -> float:
    """Return how many are true."""
    return round(float(np.mean([*found])), 3)


def _zero_is_found(measured: Measured, times: float, rng: np.random.Generator) -> bool:
    """Move one joint's zero from some episode on; is that joint named, since that episode or the one beside it?"""
    count = len(measured.signals.episodes)
    joints = [d for d in measured.of("state") if not d.is_constant and not d.is_switch and "gripper" not in d.name]
    joint = joints[int(rng.integers(len(joints)))]
    since = int(rng.integers(FEWEST_BESIDE, count - FEWEST_BESIDE + 1))
    by = np.where(np.arange(count) >= since, times * float(np.median(joint.spans)), 0.0)
    altered = _with(measured, lambda d: _moved(d, by) if d is joint else d)
    return any(abs(f.numbers["since"].get(joint.name, -9) - since) <= 1 for f in judge_zero(altered))


def _unit_is_found(measured: Measured, factor: float, part: float, rng: np.random.Generator) -> bool:
    """Put some episodes in another unit; are these, or the others, named?"""
    count = len(measured.signals.episodes)
    chosen = sorted(rng.choice(count, max(1, round(part * count)), replace=False).tolist())
    scale = np.where(np.isin(np.arange(count), chosen), factor, 1.0)
    altered = _with(measured, lambda d: _scaled(d, scale))
    others = sorted(set(range(count)) - set(chosen))
    return any(f.numbers["episodes"] in (chosen, others) for f in judge_units(altered))


def _with(measured: Measured, change: Callable[[Dimension], Dimension]) -> Measured:
    return replace(measured, dimensions=[change(d) if d.kind == "state" else d for d in measured.dimensions])


def _moved(d: Dimension, by: np.ndarray) -> Dimension:
    return replace(d, means=d.means + by, firsts=d.firsts + by, lows=d.lows + by, highs=d.highs + by)


def _scaled(d: Dimension, scale: np.ndarray) -> Dimension:
    return replace(d, means=d.means * scale, spans=d.spans * scale)


if __name__ == "__main__":
    main()
