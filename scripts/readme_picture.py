"""The picture at the top of the README: one layout, three films, beside each the success rate of many layouts.

    pi05 demo --output_dir=outputs/demo
    python scripts/readme_picture.py --policy=outputs/demo/run

Shown is the first layout of the evaluation's where the base fails, the fine-tuned policy succeeds, and succeeds again
when it is asked for another thing: what a success looks like. How often it succeeds is what the bars say: the rates of
the newest benchmarks/results/demo_DATE.json, which are those of the README's table, with Wilson intervals.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from pi05 import Policy
from pi05.eval.config import EvalConfig
from pi05.eval.result import wilson_interval
from pi05.presets import TINY_BASE
from pi05.sim.tabletop import Tabletop

REPOSITORY = Path(__file__).resolve().parents[1]
OUT, RESULTS = REPOSITORY / "docs" / "pictures" / "demo.png", REPOSITORY / "benchmarks" / "results"
FRAMES, FRAME_PX, GAP_PX, HEAD_PX, MARGIN_PX, CHART_PX = 6, 176, 8, 36, 24, 356
LAYOUTS = 50
INK, GREY, TRACK, BAR = (28, 32, 38), (96, 104, 114), (226, 230, 235), (38, 108, 176)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One film, and the rate beside it."""

    who: str
    asked: str
    frames: list[np.ndarray]
    counted: str
    """What the rate counts."""
    successes: int
    trials: int


def main() -> None:
    """Find the layout, play it three times, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", type=Path, required=True, help="run or checkpoint of the preset demo")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = films(arguments.policy)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draw(rows).quantize(256, dither=Image.Dither.NONE).save(arguments.out, optimize=True)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


def films(fine_tuned: Path) -> list[Row]:
    """Return the three rows. Raises ValueError where no layout shows all three."""
    base, tuned = Policy.load(TINY_BASE), Policy.load(fine_tuned)
    after, before, swapped = rates()
    env, config = Tabletop(family="demo"), EvalConfig()
    for episode in range(LAYOUTS):
        seed = config.episode_seed(episode)
        env.reset(seed)
        task, item = env.goal.instruction, env.goal.item
        others = [goal.instruction for goal in env.goals if goal.item != item and goal.target is not None]
        if env.goal.target is None or not others:
            continue
        plays = [(base, task), (tuned, task), (tuned, others[0])]
        (failed, wrong), (succeeded, right), (other, heeded) = (
            play(policy, env, seed, asked) for policy, asked in plays
        )
        if wrong or not right or not heeded:
            continue
        print(f"layout {seed}: {task!r}, then {others[0]!r}")
        told = "reaches its goal"
        return [
            Row(who="base, before fine-tuning", asked=task, frames=failed, counted=told, **before),
            Row(who="fine-tuned", asked=task, frames=succeeded, counted=told, **after),
            Row(
                who="fine-tuned, another instruction",
                asked=others[0],
                frames=other,
                counted="does the first task",
                **swapped,
            ),
        ]
    raise ValueError(f"none of {LAYOUTS} layouts shows all three")


def rates() -> list[dict[str, Any]]:
    """Return successes and trials of the newest demonstration: fine-tuned, base, fine-tuned with other instructions."""
    newest = max(RESULTS.glob("demo_????-??-??.json"))
    goals = json.loads(newest.read_text(encoding="utf-8"))["goals"]
    return [{name: goal[name] for name in ("successes", "trials")} for goal in goals]


def play(policy: Policy, env: Tabletop, seed: int, asked: str) -> tuple[list[np.ndarray], bool]:
    """Return the frames of one episode, and whether the table then is as asked."""
    env.reset(seed)
    noise = torch.Generator().manual_seed(0)
    frames = [env.render(FRAME_PX)]
    while True:
        draws = torch.randn(1, *policy.noise_shape, generator=noise)
        (chunk,) = policy.infer_batch([{**env.observe(), "task": asked}], noise=draws)
        for action in chunk[: policy.n_action_steps]:
            done, _ = env.step(action)
            frames.append(env.render(FRAME_PX))
            if done or env.check(asked):
                return frames, env.check(asked)


def draw(rows: Sequence[Row]) -> Image.Image:
    """Return the picture."""
    strip = FRAMES * FRAME_PX + (FRAMES - 1) * GAP_PX
    height = len(rows) * (HEAD_PX + FRAME_PX + GAP_PX) + MARGIN_PX
    picture = Image.new("RGB", (strip + CHART_PX + 2 * MARGIN_PX, height), "white")
    pen = ImageDraw.Draw(picture)
    bold, plain = ImageFont.load_default(22), ImageFont.load_default(19)
    for index, row in enumerate(rows):
        top = MARGIN_PX // 2 + index * (HEAD_PX + FRAME_PX + GAP_PX)
        pen.text((MARGIN_PX, top + 4), row.who, INK, bold)
        pen.text((MARGIN_PX + pen.textlength(row.who, bold) + 16, top + 6), f"“{row.asked}”", GREY, plain)
        chosen = np.linspace(0, len(row.frames) - 1, FRAMES).round().astype(int)
        for place, frame in enumerate(chosen):
            at = (MARGIN_PX + place * (FRAME_PX + GAP_PX), top + HEAD_PX)
            picture.paste(Image.fromarray(row.frames[frame]), at)
        draw_rate(pen, MARGIN_PX + strip + 36, top + HEAD_PX + 54, row)
    return picture


def draw_rate(pen: ImageDraw.ImageDraw, left: int, top: int, row: Row) -> None:
    """Draw one rate: words, a bar from 0 to 100 %, the 95 % interval as a whisker."""
    width, bar = CHART_PX - 36, 18
    rate = row.successes / row.trials
    pen.text((left, top), f"{row.counted}: {row.successes} of {row.trials}", INK, ImageFont.load_default(19))
    top += 28
    pen.rectangle((left, top, left + width, top + bar), TRACK)
    pen.rectangle((left, top, left + max(2, round(width * rate)), top + bar), BAR)
    low, high = (left + round(width * bound) for bound in wilson_interval(row.successes, row.trials))
    middle = top + bar // 2
    pen.line((low, middle, high, middle), INK, 2)
    for end in (low, high):
        pen.line((end, middle - 6, end, middle + 6), INK, 2)


if __name__ == "__main__":
    main()
