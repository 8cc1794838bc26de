"""Copies of sound data sets, each with one mistake that ruins a run: what `check_rivals.py` and tests look for.

One function per mistake, numbered as in section 3 of `../shared/spec/pitfalls.md`, deterministic. A copy differs from
its original by that mistake alone: where numbers are altered, the statistics in `meta/` are made anew, so that they are
true of the altered numbers, except where the statistics are the mistake.

    python benchmarks/altered_copies.py /path/of/a/set OUT        # every copy that this set allows
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from copies_in_files import (
    Episode,
    change_info,
    change_numbers,
    change_pictures,
    change_statistics,
    change_tasks,
    change_times,
    tables,
)


@dataclass(frozen=True)
class Alteration:
    """One mistake."""

    name: str
    killer: int
    what: str
    alter: Callable[[Path], None]


Numbers = Callable[[list[Episode], np.random.Generator], None]


def numbers(change: Numbers) -> Callable[[Path], None]:
    """Return an alteration of states and actions."""
    return lambda root: change_numbers(root, change)


# --- states and actions ----------------------------------------------------------------------------------------------


def velocities(episodes: list[Episode], rng: np.random.Generator) -> None:
    """Actions are the change of the state from frame to frame, per frame."""
    for e in episodes:
        shared = min(e.state.shape[1], e.action.shape[1])
        e.action[:, :shared] = np.gradient(e.state[:, :shared], axis=0)


def shuffled_pairs(episodes: list[Episode], rng: np.random.Generator) -> None:
    """Dimensions of the action are in another order than those of the state."""
    order = np.roll(np.arange(episodes[0].action.shape[1]), 1)
    for e in episodes:
        e.action[:] = e.action[:, order]


def late_actions(episodes: list[Episode], rng: np.random.Generator) -> None:
    """Actions come five frames late."""
    for e in episodes:
        e.action[5:] = e.action[:-5].copy()


def early_actions(episodes: list[Episode], rng: np.random.Generator) -> None:
    """Actions come five frames early."""
    for e in episodes:
        e.action[:-5] = e.action[5:].copy()


def action_is_state(episodes: list[Episode], rng: np.random.Generator) -> None:
    """The action of a frame is its state."""
    for e in episodes:
        shared = min(e.state.shape[1], e.action.shape[1])
        e.action[:, :shared] = e.state[:, :shared]


def nearly_constant(episodes: list[Episode], rng: np.random.Generator) -> None:
    """One dimension of the action is a constant with the noise of an encoder."""
    for e in episodes:
        e.action[:, 0] = 0.5 + rng.normal(0, 2e-4, len(e.action))


def noise(episodes: list[Episode], rng: np.random.Generator) -> None:
    """One dimension of the action is noise."""
    spread = np.concatenate([e.action[:, 0] for e in episodes]).std()
    for e in episodes:
        e.action[:, 0] = rng.normal(0, spread, len(e.action))


def wrapped(episodes: list[Episode], rng: np.random.Generator) -> None:
    """An angle jumps from π to −π in the middle of its range."""
    whole = np.concatenate([e.state[:, 0] for e in episodes])
    scale = 2.0 / max(float(np.ptp(whole)), 1e-6)
    for e in episodes:
        for values in (e.state, e.action):
            turned = (values[:, 0] - whole.mean()) * scale + np.pi
            values[:, 0] = (turned + np.pi) % (2 * np.pi) - np.pi


def degrees_in_half(episodes: list[Episode], rng: np.random.Generator) -> None:
    """Half of the episodes are in degrees, the others in radians."""
    for e in episodes[::2]:
        e.state *= 180 / np.pi
        e.action *= 180 / np.pi


def calibration(episodes: list[Episode], rng: np.random.Generator) -> None:
    """From the middle of the set on, one joint has another zero, by 0.3 of its unit."""
    for e in episodes[len(episodes) // 2 :]:
        e.state[:, 0] += 0.3
        e.action[:, 0] += 0.3


def gripper_sign(episodes: list[Episode], rng: np.random.Generator) -> None:
    """In half of the episodes the gripper's command is the other way round."""
    last = np.concatenate([e.action[:, -1] for e in episodes])
    for e in episodes[::2]:
        e.action[:, -1] = last.min() + last.max() - e.action[:, -1]


def gripper_percent(episodes: list[Episode], rng: np.random.Generator) -> None:
    """In half of the episodes the gripper's command runs from 0 to 100."""
    for e in episodes[::2]:
        e.action[:, -1] *= 100


def frozen_state(episodes: list[Episode], rng: np.random.Generator) -> None:
    """The state of each episode is that of its first frame."""
    for e in episodes:
        e.state[:] = e.state[0]


def stale_first(episodes: list[Episode], rng: np.random.Generator) -> None:
    """The first state of each episode is the last of the one before."""
    for before, e in itertools.pairwise(episodes):
        e.state[0] = before.state[-1]


def spike(episodes: list[Episode], rng: np.random.Generator) -> None:
    """One frame of one episode has an action far outside."""
    e = episodes[len(episodes) // 2]
    e.action[len(e.action) // 2, 0] = 1e4


def small_spikes(episodes: list[Episode], rng: np.random.Generator) -> None:
    """A few single frames have actions of two to three times the range."""
    whole = np.concatenate([e.action for e in episodes])
    range_, middle = np.ptp(whole, axis=0), whole.mean(0)
    for e in episodes[::2]:
        e.action[len(e.action) // 3] = middle + range_ * rng.uniform(2, 3, e.action.shape[1])


def state_jump(episodes: list[Episode], rng: np.random.Generator) -> None:
    """In the middle of an episode the state jumps by three quarters of its range and stays there."""
    whole = np.concatenate([e.state for e in episodes])
    e = episodes[len(episodes) // 2]
    e.state[len(e.state) // 2 :] += 0.75 * np.ptp(whole, axis=0)


def not_finite(episodes: list[Episode], rng: np.random.Generator) -> None:
    """One action is NaN."""
    episodes[1].action[3, 0] = np.nan


def idle(episodes: list[Episode], rng: np.random.Generator) -> None:
    """The last 60 % of every episode, neither state nor action changes."""
    for e in episodes:
        for values in (e.state, e.action):
            values[int(0.4 * len(values)) :] = values[int(0.4 * len(values))]


def duplicate(episodes: list[Episode], rng: np.random.Generator) -> None:
    """Two episodes hold the same numbers, as far as the shorter one reaches."""
    one, other = sorted(episodes[:2], key=lambda e: -len(e.state))
    other.state[:], other.action[:] = one.state[: len(other.state)], one.action[: len(other.state)]


def exact_duplicate(root: Path) -> None:
    """One episode is in the set twice: its numbers replace those of an episode that is made as long (v2.x and v3.0)."""

    def copy(episodes: list[Episode], rng: np.random.Generator) -> None:
        by_length: dict[int, list[Episode]] = {}
        for e in episodes:
            by_length.setdefault(len(e.state), []).append(e)
        one, other = next(group for group in by_length.values() if len(group) > 1)[:2]
        other.state[:], other.action[:] = one.state, one.action

    change_numbers(root, copy)


# --- statistics, clock, tasks, files ---------------------------------------------------------------------------------


def averaged_quantiles(root: Path) -> None:
    """q01 and q99 are means over the episodes, as LeRobot wrote them until August 2026."""
    parts: dict[str, list[np.ndarray]] = {}
    change_numbers(root, lambda episodes, rng: parts.update(a=[e.action.copy() for e in episodes]))
    low, high = (np.mean([np.quantile(part, q, axis=0) for part in parts["a"]], axis=0).tolist() for q in (0.01, 0.99))
    change_statistics(root, "action", lambda stats: stats.update(q01=low, q99=high))


def statistics_of_another_set(root: Path) -> None:
    """All statistics of the action are those of a set in other units."""

    def scale(stats: dict[str, Any]) -> None:
        for key in stats:
            if key != "count":
                stats[key] = (np.asarray(stats[key]) * 57.3).tolist()

    change_statistics(root, "action", scale)


def wrong_rate(root: Path) -> None:
    """info.json claims twice the rate of the recording."""
    change_info(root, lambda info: info.update(fps=int(info["fps"]) * 2))


def wall_clock(root: Path) -> None:
    """Timestamps are those of a wall clock, with jitter."""
    rng = np.random.default_rng(0)
    change_times(root, lambda times: times + rng.uniform(0, 0.03, len(times)))


def clock_gap(root: Path) -> None:
    """In one episode the clock jumps by three frames."""
    change_times(root, lambda times: times + np.where(np.arange(len(times)) > len(times) // 2, 3 * times[1], 0), only=1)


def one_task(root: Path) -> None:
    """Every frame of the set has one and the same instruction."""
    change_tasks(root, lambda texts: dict.fromkeys(texts, next(iter(texts.values()))))


def placeholder(root: Path) -> None:
    """The instructions are placeholders."""
    change_tasks(root, lambda texts: dict.fromkeys(texts, "TODO"))


def empty_task(root: Path) -> None:
    """One instruction is empty."""
    change_tasks(root, lambda texts: {number: "" if number == 0 else text for number, text in texts.items()})


def spellings(root: Path) -> None:
    """Half of the frames say their task in another spelling."""
    change_tasks(root, lambda texts: {n: t.replace(" ", "_") + "." if n == 0 else t for n, t in texts.items()}, again=0)


def swapped_task(root: Path) -> None:
    """The frames of one episode show another task than the episode list says."""
    path, table = tables(root)[0]
    episodes = table["episode_index"].to_numpy()
    numbers = table["task_index"].to_numpy().copy()
    own = episodes == episodes[0]
    others = np.setdiff1d(numbers, numbers[own])
    if not len(others):
        raise ValueError("one task only")
    numbers[own] = others[0]
    at = table.column_names.index("task_index")
    pq.write_table(table.set_column(at, "task_index", pa.array(numbers)), path)


def missing_rows(root: Path) -> None:
    """The last rows of a data file are gone."""
    path, table = tables(root)[-1]
    pq.write_table(table.slice(0, table.num_rows - 7), path)


def cut_file(root: Path) -> None:
    """A data file was cut off while it was copied."""
    path, _ = tables(root)[-1]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def wrong_totals(root: Path) -> None:
    """info.json counts an episode that is not there."""
    change_info(root, lambda info: info.update(total_episodes=info["total_episodes"] + 1))


# --- pictures --------------------------------------------------------------------------------------------------------


def black(root: Path) -> None:
    """One camera was covered."""
    change_pictures(root, 0, lambda images, other: [np.zeros_like(image) for image in images])


def frozen(root: Path) -> None:
    """One camera hangs: every picture is the first one."""
    change_pictures(root, 0, lambda images, other: [images[0]] * len(images))


def same_camera(root: Path) -> None:
    """Two cameras record one and the same picture."""
    change_pictures(root, 1, lambda images, other: other)


def late_pictures(root: Path) -> None:
    """Pictures come eight frames late: eight frames more at the start of each video."""
    change_pictures(root, 0, lambda images, other: [*[images[0]] * 8, *images[:-8]])


def surplus_pictures(root: Path) -> None:
    """A video has eight frames more at its start than there are rows."""
    change_pictures(root, 0, lambda images, other: [*[images[0]] * 8, *images])


ALTERATIONS: tuple[Alteration, ...] = (
    Alteration("averaged_quantiles", 3, "q01, q99 averaged over episodes", averaged_quantiles),
    Alteration("statistics_of_another_set", 3, "statistics of other data", statistics_of_another_set),
    Alteration("nearly_constant", 4, "a constant with noise of 2e-4", numbers(nearly_constant)),
    Alteration("velocities", 7, "actions are changes of the state", numbers(velocities)),
    Alteration("shuffled_pairs", 7, "action and state in different order", numbers(shuffled_pairs)),
    Alteration("action_is_state", 7, "the action is the state of its frame", numbers(action_is_state)),
    Alteration("wrapped", 8, "an angle wraps at π", numbers(wrapped)),
    Alteration("gripper_sign", 9, "gripper reversed in half the episodes", numbers(gripper_sign)),
    Alteration("gripper_percent", 9, "gripper in percent in half the episodes", numbers(gripper_percent)),
    Alteration("black", 10, "a black camera", black),
    Alteration("frozen", 10, "a frozen camera", frozen),
    Alteration("same_camera", 10, "two cameras, one picture", same_camera),
    Alteration("frozen_state", 12, "a state that never changes in an episode", numbers(frozen_state)),
    Alteration("one_task", 14, "one instruction for all", one_task),
    Alteration("placeholder", 14, "instruction TODO", placeholder),
    Alteration("empty_task", 14, "an empty instruction", empty_task),
    Alteration("spellings", 14, "one task in two spellings", spellings),
    Alteration("swapped_task", 14, "frames of one episode show another task", swapped_task),
    Alteration("wrong_rate", 15, "fps twice the recording's", wrong_rate),
    Alteration("wall_clock", 15, "timestamps with 30 ms of jitter", wall_clock),
    Alteration("clock_gap", 15, "a gap of three frames in one clock", clock_gap),
    Alteration("late_actions", 16, "actions five frames late", numbers(late_actions)),
    Alteration("early_actions", 16, "actions five frames early", numbers(early_actions)),
    Alteration("late_pictures", 16, "pictures eight frames late, as many as rows", late_pictures),
    Alteration("surplus_pictures", 16, "eight frames more before the first row", surplus_pictures),
    Alteration("idle", 24, "60 % of each episode idle", numbers(idle)),
    Alteration("not_finite", 24, "one NaN", numbers(not_finite)),
    Alteration("spike", 24, "one action of 10,000", numbers(spike)),
    Alteration("small_spikes", 24, "spikes of 2 to 3 times the range", numbers(small_spikes)),
    Alteration("state_jump", 24, "a jump of the state in one episode", numbers(state_jump)),
    Alteration("stale_first", 24, "first state is the last of the episode before", numbers(stale_first)),
    Alteration("noise", 24, "a dimension of noise", numbers(noise)),
    Alteration("exact_duplicate", 25, "an episode twice", exact_duplicate),
    Alteration("duplicate", 25, "an episode twice, one of them shorter", numbers(duplicate)),
    Alteration("degrees_in_half", 27, "degrees in half the episodes", numbers(degrees_in_half)),
    Alteration("calibration", 27, "a zero shifted by 0.3 from the middle on", numbers(calibration)),
    Alteration("missing_rows", 24, "seven rows gone at the end", missing_rows),
    Alteration("cut_file", 24, "a data file cut off", cut_file),
    Alteration("wrong_totals", 24, "info.json counts one episode more", wrong_totals),
)


def make_copy(original: Path, out: Path, alteration: Alteration) -> bool:
    """Write one altered copy; False where this set cannot have that mistake (one task, one camera, other lengths)."""
    shutil.copytree(original, out)
    try:
        alteration.alter(out)
    except (ValueError, StopIteration, IndexError, KeyError):
        shutil.rmtree(out)
        return False
    return True


def main() -> None:
    """Write every copy that a set allows."""
    original, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True)
    for alteration in ALTERATIONS:
        done = make_copy(original, out / alteration.name, alteration)
        print(json.dumps({"name": alteration.name, "killer": alteration.killer, "made": done}))


if __name__ == "__main__":
    main()
