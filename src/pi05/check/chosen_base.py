"""The base on this data: whose statistics it brings, and how it was preprocessed, against the run's.

A base's statistics are used with `--stats checkpoint`; then what does not fit is an error. Otherwise they are not
used, and tell only that the base knows another robot, which is no fault. Leaves out its network (`network.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pi05.check.likeness import Likeness, liken
from pi05.check.normalised import CLEARLY, Sample, name_dimensions, share_outside, take_sample
from pi05.check.recipe import FAR, MOST_OUTSIDE
from pi05.check.subject import Base, Recipe, Subject
from pi05.data.statistics import DimStats
from pi05.data.transforms import Normalizer
from pi05.finding import Finding, error, note, ok, warning

TOO_WIDE = 0.05
"""Range of the data over that of the statistics; below this most of the precision is lost."""
SAME_RATE = 0.05


def check_base(subject: Subject) -> Iterator[Finding]:
    """Yield what the base is to this data and recipe; nothing without both."""
    if subject.base is None or subject.recipe is None or not len(subject.recipe.train_episodes):
        return
    yield from _edited(subject.base)
    yield from _statistics(subject, subject.recipe, subject.base)
    yield from _settings(subject.recipe, subject.base)


def _edited(base: Base) -> Iterator[Finding]:
    if base.edited:
        yield error(
            "base.edited",
            f"config.json of the base was edited after it was written: {', '.join(base.edited)}",
            "goes on as the edited file says, not as the base was trained",
            "restore the file, or take another checkpoint of that run",
            {"fields": list(base.edited)},
        )


def _statistics(subject: Subject, recipe: Recipe, base: Base) -> Iterator[Finding]:
    """Judge the base's statistics on the data as the run transforms it."""
    if base.state_stats is None or base.action_stats is None:
        return
    dataset, processor = subject.dataset, recipe.processor
    sizes = (dataset.state_dim, dataset.action_dim)
    if (base.state_stats.dim, base.action_stats.dim) != sizes:
        yield note(
            "base.robot",
            f"the base's statistics are of {base.state_stats.dim} state and {base.action_stats.dim} action dimensions, "
            f"this data has {sizes[0]} and {sizes[1]}: another robot; they are not used",
        )
        return
    episodes, horizon = recipe.train_episodes, processor.horizon
    sample = take_sample(dataset, episodes, horizon, processor.relative_mask)
    other = _other_representation(subject, recipe)
    found = [
        *_judge("state", base.state_stats, sample.states, None, subject, recipe),
        *_judge("action", base.action_stats, sample.actions, None if other is None else other.actions, subject, recipe),
    ]
    yield from found
    if not found:
        yield ok("base.statistics", "the base's statistics fit this data")


def _other_representation(subject: Subject, recipe: Recipe) -> Sample | None:
    """Return the actions as the run does not train them: absolute where it has relative ones, and the reverse."""
    dataset, mask = subject.dataset, recipe.processor.relative_mask
    if mask is None:
        paired = [i < dataset.state_dim for i in range(dataset.action_dim)]
        return take_sample(dataset, recipe.train_episodes, recipe.processor.horizon, paired)
    return take_sample(dataset, recipe.train_episodes, recipe.processor.horizon, None)


def _judge(
    kind: str, stats: DimStats, values: np.ndarray, other: np.ndarray | None, subject: Subject, recipe: Recipe
) -> Iterator[Finding]:
    processor = recipe.processor
    names = subject.dataset.state_names if kind == "state" else subject.dataset.action_names
    mode = processor.normalization["STATE" if kind == "state" else "ACTION"]
    if any(
        name not in stats.known for name in {"QUANTILES": ("q01", "q99"), "MEAN_STD": ("mean", "std")}.get(mode, ())
    ):
        return
    normal = Normalizer(stats, mode, processor.formula).normalize(values)
    share = share_outside(normal, FAR[mode])
    like = liken(stats, values, other, of_states=kind == "state", relative=processor.relative_mask is not None)
    wide = np.flatnonzero(share > MOST_OUTSIDE).tolist()
    narrow = [i for i, ratio in enumerate(like.ratios) if 0 < ratio < TOO_WIDE]
    if not wide and len(narrow) <= like.moving / 2:
        return
    numbers: dict[str, Any] = {
        "kind": like.kind,
        "share": {str(i): float(share[i]) for i in wide},
        "largest": float(np.abs(normal).max()),
        "narrow": narrow,
    }
    measured = (
        f"up to {share.max():.0%} of a dimension's values lie beyond ±{FAR[mode]:g}, up to {numbers['largest']:.4g}: "
        f"{name_dimensions(names, wide)}"
        if wide
        else f"the data fills less than {TOO_WIDE:.0%} of the range of {name_dimensions(names, narrow)}"
    )
    clearly = bool((share_outside(normal, CLEARLY * FAR[mode]) > MOST_OUTSIDE).any()) or not wide
    yield _told(kind, like, measured, numbers, used=recipe.statistics_of_base, clearly=clearly)


def _told(
    kind: str, like: Likeness, measured: str, numbers: Mapping[str, Any], *, used: bool, clearly: bool
) -> Finding:
    text = f"the base's statistics of the {kind} do not fit this data: {measured}. {like.text}"
    if used:
        severity = error if clearly else warning
        return severity(
            f"base.statistics_{kind}",
            text,
            "gives the network numbers far outside of what it knows, and gets answers in the wrong scale",
            "--stats=recompute, which is the default; or bring the data into the units of the base",
            numbers,
        )
    return note(
        f"base.statistics_{kind}",
        text,
        "does not use them: it has statistics of its own",
        "where this data was meant to be that of the base's robot, compare units and calibration before training",
        numbers,
    )


def _settings(recipe: Recipe, base: Base) -> Iterator[Finding]:
    """Compare how the base was preprocessed with how the run will be."""
    processor, told = recipe.processor, base.settings
    flags = {"resize": "--resize", "prompt_format": "--prompt_format"}
    for name, flag in flags.items():
        own, of_base = getattr(processor, name), told.get(name)
        if of_base is not None and of_base != own:
            yield warning(
                f"base.{name}",
                f"the base was trained with {name} {of_base}, this run has {own}",
                "has to teach the network first what it knew already; a short one does not manage",
                f"leave {flag} out: the run then goes on as the base was trained",
                {"base": of_base, "run": own},
            )
    tokenizer = told.get("tokenizer")
    of_base = tokenizer.get("sha256") if isinstance(tokenizer, Mapping) else None
    if recipe.tokenizer_known and of_base not in (None, processor.tokenizer.sha256):
        yield note(
            "base.tokenizer",
            "the tokenizer's file is not that of the base",
            "is not harmed by another file with the same numbers, and refuses other numbers",
            "leave --policy.tokenizer_path out",
            {"base": of_base, "run": processor.tokenizer.sha256},
        )
    yield from _representation(recipe, told)
    yield from _cameras(recipe, told)
    rate = told.get("fps")
    if rate and processor.fps and abs(processor.fps / rate - 1) > SAME_RATE:
        yield note(
            "base.rate",
            f"the base was trained at {rate:g} Hz, this data has {processor.fps:g} Hz",
            "has to teach that a chunk is a motion of another duration",
            numbers={"base": rate, "run": processor.fps},
        )


def _representation(recipe: Recipe, told: Mapping[str, Any]) -> Iterator[Finding]:
    if "relative_mask" not in told:
        return
    of_base, own = told["relative_mask"], recipe.processor.relative_mask
    if (of_base is None) != (own is None):
        words = ("absolute", "relative to the state")
        yield warning(
            "base.representation",
            f"the base's actions are {words[of_base is not None]}, those of this run {words[own is not None]}",
            "gets less help from the base than it could: the same numbers mean other motions",
            f"--policy.use_relative_actions={str(of_base is not None).lower()}",
            {"base": of_base, "run": None if own is None else list(own)},
        )


def _cameras(recipe: Recipe, told: Mapping[str, Any]) -> Iterator[Finding]:
    slots = told.get("slots")
    if not isinstance(slots, Mapping):
        return
    own = recipe.slots.by_slot
    before = {camera: slot for slot, camera in slots.items() if slot in own and camera is not None}
    moved = [
        f"{camera} from {before[camera]} to {slot}"
        for slot, camera in own.items()
        if camera is not None and before.get(camera, slot) != slot
    ]
    if moved:
        yield warning(
            "base.slots",
            f"cameras of the same name sit in other slots than the base has them in: {'; '.join(moved)}",
            "looks for the hand where the scene is",
            "--rename_map, with the slots of the base (pi05 inspect tells them)",
            {"moved": moved},
        )
    new = [slot for slot, camera in own.items() if camera is not None and slots.get(slot) is None]
    if new:
        yield note(
            "base.new_slots",
            f"the base was trained with no camera in {', '.join(new)}; this run has one there",
            "learns what that camera shows from this data alone",
            numbers={"slots": new},
        )
