"""The recipe on this data: what the actions mean, what of them is executed, what the prompt and the slots hold.

Everything here is a matter of settings: the data may be sound and the recipe may be sound, and the two not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np
from jaxtyping import Float

from pi05.check.leakage import check_leakage
from pi05.check.motion import FOLLOWS, NOT_A_TARGET, TELLS, Motion, measure_motion
from pi05.check.normalised import CLEARLY, name_dimensions, share_outside, take_sample
from pi05.check.prompts import check_prompts
from pi05.check.subject import Recipe, Subject
from pi05.data.statistics import GLITCH
from pi05.finding import Finding, error, note, warning

LONGEST_OPEN_LOOP = 1.0
"""Seconds for which a robot may well move without looking."""
SAME_FRAME = 1.0
"""Steps of the state by which actions are off it, up to which they cannot be late: where a robot follows within a
frame, what is left between the two is noise, and follows nothing."""
MOST_PADDED = 0.5
MOST_OUTSIDE = 0.1
"""Share of a dimension's normalised values beyond its range: sound statistics leave 0.02, wrong ones 0.1 to 1."""
MOST_FAR = 0.01
"""Share of the chunks that may hold a value beyond 50 normalised units: their squares decide what those steps learn.
One broken frame in 15,000 is in 0.1 to 0.3 % of the chunks, one in 500 in every other batch."""
FAR = {"QUANTILES": 1.0, "IDENTITY": 1.0, "MEAN_STD": 3.0}
"""The range of normalised values by kind of normalisation."""


def check_recipe(subject: Subject) -> Iterator[Finding]:
    """Yield what the recipe does with this data; nothing without a recipe."""
    recipe = subject.recipe
    if recipe is None or not len(recipe.train_episodes):
        return
    mask = recipe.processor.relative_mask
    relative = None if mask is None else [i for i, marked in enumerate(mask) if marked]
    motion = measure_motion(subject.dataset, recipe.train_episodes, relative)
    yield from chain(
        _relative(subject, recipe),
        () if motion is None else _action_kind(subject, recipe, motion),
        _open_loop(recipe),
        _padding(subject, recipe),
        _slots(recipe),
        _range(subject, recipe),
        _far(subject, recipe),
        check_prompts(subject, recipe),
        check_leakage(subject, recipe),
    )


def _relative(subject: Subject, recipe: Recipe) -> Iterator[Finding]:
    names, mask = subject.dataset.action_names, recipe.processor.relative_mask
    if mask is None:
        text = f"all {len(names)} action dimensions are trained as the data set has them: {', '.join(names[:12])}"
        yield note("recipe.representation", text + (", …" if len(names) > 12 else ""))
        return
    relative = [i for i, marked in enumerate(mask) if marked]
    kept = [i for i, marked in enumerate(mask) if not marked]
    yield note(
        "recipe.representation",
        f"relative to the state at the chunk's start: {name_dimensions(names, relative, 12)}; as they are: "
        f"{name_dimensions(names, kept, 12) or 'none'}",
        numbers={"relative": relative},
    )


def _action_kind(subject: Subject, recipe: Recipe, motion: Motion) -> Iterator[Finding]:
    numbers = {
        "kind": motion.kind,
        "ratio": motion.ratio,
        "correlation": motion.correlation,
        "follows": None if np.isnan(motion.follows) else motion.follows,
        "shift": motion.shift,
        "apart_steps": motion.apart,
        "dimensions": list(motion.dimensions),
    }
    measured = f"std(action - state) is {motion.ratio:.2f} of std(action), their correlation {motion.correlation:.2f}"
    relative = recipe.processor.relative_mask is not None
    if relative and motion.ratio > NOT_A_TARGET:
        yield error(
            "recipe.relative_actions",
            f"relative actions are asked for, and the actions are no targets in the state's units: {measured}; they "
            f"look like {TELLS[motion.kind]}",
            "subtracts the state from numbers that mean something else, and adds it to what the policy answers",
            "--policy.use_relative_actions=false; or bring state and action into one order and unit with "
            "--dataset.state and --dataset.action",
            numbers,
        )
    else:
        yield note("recipe.action_kind", f"the actions look like {TELLS[motion.kind]}: {measured}", numbers=numbers)
        if motion.kind == "target" and motion.follows < FOLLOWS and motion.apart > SAME_FRAME:
            yield _late(motion, subject.dataset.fps, numbers)


def _late(motion: Motion, fps: float, numbers: Mapping[str, object]) -> Finding:
    if motion.shift < 0:
        how = f"they come about {-motion.shift} frames ({-motion.shift / fps:.2f} s) too late"
    else:
        how = "they do not come too late, but do not belong together"
    return warning(
        "recipe.action_lag",
        "the actions do not tell where the state moves next: their distance from the state and the motion that follows "
        f"correlate by {motion.follows:.2f} (sound sets: 0.73 and more); {how}",
        "learns to command what has happened already, or what belongs to another frame",
        "compare the clocks of state and action in the recorder, and shift or convert the recording anew",
        numbers,
    )


def _open_loop(recipe: Recipe) -> Iterator[Finding]:
    fps, horizon = recipe.processor.fps, recipe.processor.horizon
    if not fps:
        return
    seconds = recipe.n_action_steps / fps
    numbers = {"chunk_s": horizon / fps, "open_loop_s": seconds, "n_action_steps": recipe.n_action_steps, "fps": fps}
    text = (
        f"a chunk is {horizon} actions, {horizon / fps:.2f} s at {fps:g} Hz; {recipe.n_action_steps} of them, "
        f"{seconds:.2f} s, are executed before the policy looks again"
    )
    if seconds > LONGEST_OPEN_LOOP:
        yield warning(
            "recipe.open_loop",
            text,
            "makes a policy that moves blindly for longer than a second: what slips meanwhile is not seen",
            f"--policy.n_action_steps={max(1, int(fps * LONGEST_OPEN_LOOP))}, which can also be changed at use",
            numbers,
        )
    else:
        yield note("recipe.chunk", text, numbers=numbers)


def _padding(subject: Subject, recipe: Recipe) -> Iterator[Finding]:
    horizon = recipe.processor.horizon
    lengths = np.array([subject.dataset.episodes[number].length for number in recipe.train_episodes])
    short = np.minimum(lengths, horizon)
    padded = (short * (horizon - 1) - short * (short - 1) // 2).sum() / (lengths.sum() * horizon)
    if padded > MOST_PADDED:
        yield warning(
            "recipe.padding",
            f"{padded:.0%} of the action steps lie past their episode's end: a chunk is {horizon} actions, and the "
            f"median episode has {int(np.median(lengths))} frames",
            "learns nothing from most of each chunk; what the policy answers there is a guess",
            f"--policy.chunk_size={max(1, int(np.median(lengths)) // 3)}, or longer recordings",
            {"share": float(padded), "horizon": horizon, "median_length": float(np.median(lengths))},
        )


def _slots(recipe: Recipe) -> Iterator[Finding]:
    slots = recipe.slots
    filled = ", ".join(f"{camera} → {slot}" for slot, camera in slots.by_slot.items() if camera is not None)
    empty = [slot for slot, camera in slots.by_slot.items() if camera is None]
    words = [filled, f"empty and masked: {', '.join(empty)}" if empty else ""]
    words.append(f"dropped: {', '.join(slots.dropped)}" if slots.dropped else "")
    yield note("recipe.slots", "; ".join(word for word in words if word), numbers={"slots": slots.to_dict()})


def _range(subject: Subject, recipe: Recipe) -> Iterator[Finding]:
    """Judge the normalised values that the network will get; statistics of a base are `chosen_base.py`'s."""
    if recipe.statistics_of_base:
        return
    processor, dataset = recipe.processor, subject.dataset
    sample = take_sample(dataset, recipe.train_episodes, processor.horizon, processor.relative_mask)
    sides = (
        ("STATE", dataset.state_names, processor.state_normalizer.normalize(sample.states)),
        ("ACTION", dataset.action_names, processor.action_normalizer.normalize(sample.actions)),
    )
    for kind, names, values in sides:
        mode = processor.normalization[kind]
        share = share_outside(values, CLEARLY * FAR[mode])
        wide = np.flatnonzero(share > MOST_OUTSIDE).tolist()
        if wide:
            yield error(
                f"recipe.range_{kind.lower()}",
                f"{mode} leaves up to {share.max():.0%} of the {kind.lower()} beyond ±{CLEARLY * FAR[mode]:g}, "
                f"up to {np.abs(values).max():.4g}: {name_dimensions(names, wide)}",
                "spends most of its loss on these dimensions: the network was made for numbers of about ±1, and a "
                "state beyond the range is one bin of the prompt, whatever its value",
                f'--policy.normalization_mapping=\'{{"{kind}": "QUANTILES"}}\'',
                {"share": {str(i): float(share[i]) for i in wide}, "largest": float(np.abs(values).max())},
            )


def _far(subject: Subject, recipe: Recipe) -> Iterator[Finding]:
    """Judge single values far outside: a dimension that nearly always stands still, or broken frames."""
    if (
        recipe.statistics_of_base or recipe.processor.normalization["ACTION"] == "IDENTITY"
    ):  # these are others' findings
        return
    share, largest = far_chunks(subject, recipe)
    wide = np.flatnonzero(share > MOST_FAR).tolist()
    if wide:
        yield error(
            "recipe.far_action",
            f"{share.max():.1%} of the chunks hold an action beyond {GLITCH:g} normalised units, up to "
            f"{largest.max():.4g}: {name_dimensions(subject.dataset.action_names, wide)}",
            "learns from these few steps and from nothing else: the loss counts squares",
            "look at these frames (pi05 check draws them); exclude the episodes, or repair the recording; where the "
            'values are real, --policy.normalization_mapping=\'{"ACTION": "MEAN_STD"}\'',
            {"share": {str(i): float(share[i]) for i in wide}, "largest": float(largest.max())},
        )


def far_chunks(subject: Subject, recipe: Recipe) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return of each action dimension the share of chunks with a value beyond GLITCH, and the largest value."""
    dataset, processor = subject.dataset, recipe.processor
    hit, chunks, largest = np.zeros(dataset.action_dim), 0, np.zeros(dataset.action_dim)
    relative = None if processor.relative_mask is None else np.flatnonzero(processor.relative_mask)
    for number in recipe.train_episodes:
        episode = dataset.episodes[number]
        rows = slice(episode.start, episode.start + episode.length)
        actions = dataset.actions()[rows].copy()
        if relative is not None:
            actions[:, relative] -= dataset.states()[rows][:, relative]
        values = np.abs(processor.action_normalizer.normalize(actions))
        largest = np.maximum(largest, values.max(axis=0))
        chunks += len(values)
        far = values > GLITCH
        if far.any():
            counted = np.concatenate([np.zeros((1, far.shape[1]), int), far.cumsum(axis=0)])
            ends = np.minimum(np.arange(len(far)) + processor.horizon, len(far))
            hit += (counted[ends] > counted[:-1]).sum(axis=0)
    return hit / max(1, chunks), largest
