"""What a repair did, and what it could not do, in words; kept in the copy as `meta/repairs.json`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pi05.check.fix.lists import mended_splits
from pi05.check.fix.plan import Plan
from pi05.check.fix.true_statistics import TrueStatistics

NAME = "repairs.json"
MOST_TOLD = 8
"""Episodes of which each is described in one line; all are in the list of numbers beside it."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """One thing that was done, or that could not be."""

    what: str
    """episodes, clock, numbers, lists, tasks, idle, statistics, videos, files."""
    text: str
    episodes: tuple[int, ...] = ()
    """Of the source, those that it concerns; empty for the set as a whole."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """All of it."""

    done: tuple[Repair, ...]
    left: tuple[Repair, ...]
    """What is still so in the copy."""
    episodes: int
    frames: int
    source_numbers: tuple[int, ...]
    """The number in the source of each episode of the copy."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def make_account(plan: Plan, statistics: TrueStatistics, links: tuple[int, int], others_left: Sequence[str]) -> Account:
    """Put together what was done."""
    done = [*_episodes(plan), *_columns(plan), *_lists(plan), *_tasks(plan), *_idle(plan)]
    if statistics.wrong:
        done.append(
            Repair(what="statistics", text=f"statistics that were not the data's: {'; '.join(statistics.wrong)}")
        )
    elif not plan.same_frames:
        done.append(Repair(what="statistics", text="statistics of the frames that are in the copy"))
    linked, copied = links
    if linked or copied:
        text = f"{linked} videos are hard links to the source's, {copied} are copies; none was encoded anew"
        done.append(Repair(what="videos", text=text))
    left = [*_surplus(plan), *_not_cut(plan), *_unused_spellings(plan)]
    if others_left:
        text = f"left out, since they may name episodes by their old numbers: {', '.join(others_left)}"
        left.append(Repair(what="files", text=text))
    return Account(
        done=tuple(done),
        left=tuple(left),
        episodes=len(plan.kept),
        frames=sum(kept.length for kept in plan.kept),
        source_numbers=tuple(kept.files.index for kept in plan.kept),
    )


def render_account(account: Account, root: str | Path, out: str | Path) -> str:
    """Return the account for a terminal: what was done, and what could not be."""
    lines = [f"{out}: {account.episodes} episodes, {account.frames} frames; {root} is as it was"]
    for mark, entries in (("done", account.done), ("left", account.left)):
        for entry in entries:
            lines += textwrap.wrap(
                f"{mark:<6}{entry.what:<12}{entry.text}",
                width=100,
                subsequent_indent=" " * 18,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def _episodes(plan: Plan) -> list[Repair]:
    return [
        Repair(what="episodes", text=f"episode {number} is left out: {reason}", episodes=(number,))
        for number, reason in sorted(plan.dropped.items())
    ]


def _columns(plan: Plan) -> list[Repair]:
    clocks = {k.files.index: k.verdict.clock for k in plan.kept if k.verdict.clock is not None}
    done = []
    if clocks:
        told = [f"in episode {number} {text}" for number, text in clocks.items()][:MOST_TOLD]
        more = f", and {len(clocks) - len(told)} more" if len(clocks) > len(told) else ""
        text = f"timestamps are frame / fps: {', '.join(told)}{more}"
        done.append(Repair(what="clock", text=text, episodes=tuple(clocks)))
    wrong = tuple(kept.files.index for kept in plan.kept if kept.verdict.renumbered)
    if wrong:
        done.append(Repair(what="numbers", text="frame_index counts the frames of each episode from 0", episodes=wrong))
    added = [name for name in ("frame_index", "timestamp") if name not in plan.source.layout.features]
    if added:
        done.append(Repair(what="numbers", text=f"columns that were missing: {', '.join(added)}"))
    moved = [f"{kept.files.index} is now {kept.number}" for kept in plan.kept if kept.files.index != kept.number]
    if moved:
        done.append(Repair(what="numbers", text=f"episodes have new numbers: {', '.join(moved)}"))
    return done


def _lists(plan: Plan) -> list[Repair]:
    source, info = plan.source, plan.source.info
    done = [Repair(what="lists", text=f"{name} was missing, and is made anew") for name in source.rebuilt]
    if source.listed_twice:
        text = "episodes that the list had twice are in it once"
        done.append(Repair(what="lists", text=text, episodes=tuple(source.listed_twice)))
    if "meta/episodes.jsonl" not in source.rebuilt:
        wrong = {k.files.index: (k.files.length, k.place.count) for k in plan.kept if k.files.length != k.place.count}
        for number, (said, true) in wrong.items():
            text = f"the list gave episode {number} {said} frames; it has {true}"
            done.append(Repair(what="lists", text=text, episodes=(number,)))
    moved = tuple(kept.files.index for kept in plan.kept if kept.files.table != kept.place.table)
    if moved:
        done.append(Repair(what="lists", text="the list pointed to other data files", episodes=moved))
    counts = {
        "total_episodes": len(plan.kept),
        "total_frames": sum(kept.length for kept in plan.kept),
        "total_tasks": len(plan.tasks.texts),
    }
    wrong_totals = [f"{key} {info[key]} is {true}" for key, true in counts.items() if key in info and info[key] != true]
    if wrong_totals:
        done.append(Repair(what="lists", text=f"info.json: {', '.join(wrong_totals)}"))
    if (splits := mended_splits(plan)) is not None and info.get("splits") != splits:
        done.append(Repair(what="lists", text=f"info.json: splits {info.get('splits')} are {splits}"))
    if any("path templates" in note for note in source.layout.notes):
        done.append(Repair(what="lists", text="info.json: path templates that did not fit the files"))
    gone = [name for name in info["features"] if name not in source.layout.features]
    if gone:
        done.append(Repair(what="lists", text=f"left out as asked: {', '.join(gone)}"))
    return done


def _tasks(plan: Plan) -> list[Repair]:
    done = [
        Repair(
            what="tasks", text=f"task {number} was missing in the list: {plan.tasks.texts[plan.tasks.number[number]]!r}"
        )
        for number in plan.tasks.added
    ]
    done += [
        Repair(what="tasks", text=f"{gone!r} and {stays!r} are one task, {stays!r}")
        for gone, stays in plan.tasks.joined
    ]
    texts = plan.tasks.texts
    others = tuple(
        kept.files.index
        for kept in plan.kept
        if kept.tasks and set(kept.files.tasks) != {texts[plan.tasks.number[number]] for number in kept.tasks}
    )
    if others:
        text = "the episode list names the tasks that the frames show"
        done.append(Repair(what="tasks", text=text, episodes=others))
    return done


def _idle(plan: Plan) -> list[Repair]:
    return [
        Repair(
            what="idle",
            text=f"episode {kept.files.index}: {kept.cut[0]} idle frames cut at its start, {kept.cut[1]} at its end",
            episodes=(kept.files.index,),
        )
        for kept in plan.kept
        if sum(kept.cut)
    ]


def _surplus(plan: Plan) -> list[Repair]:
    return [
        Repair(
            what="videos",
            text=f"the video of {camera} has {frames} frames more than episode {kept.files.index} has rows: whether "
            "they come before or after it cannot be told, so nothing was shifted",
            episodes=(kept.files.index,),
        )
        for kept in plan.kept
        for camera, frames in kept.verdict.surplus.items()
    ]


def _not_cut(plan: Plan) -> list[Repair]:
    if not plan.idle_left:
        return []
    text = (
        f"{sum(plan.idle_left.values())} idle frames at the ends of episodes stay: in {plan.source.version} each "
        "episode is a whole video, which would have to be encoded anew; converted to v3.0 by LeRobot, they can be cut"
    )
    return [Repair(what="idle", text=text, episodes=tuple(sorted(plan.idle_left)))]


def _unused_spellings(plan: Plan) -> list[Repair]:
    used = set(plan.tasks.number.values())
    unused = [text for number, text in plan.tasks.texts.items() if number not in used]
    if not unused:
        return []
    text = (
        f"spellings that no frame shows any more stay in the task list, since other columns may point to it: {unused}"
    )
    return [Repair(what="tasks", text=text)]
