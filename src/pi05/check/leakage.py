"""Does the held-out error measure what was held out? The same recording on both sides, a base that has seen it."""

from __future__ import annotations

from collections.abc import Iterator

from pi05.check.copies import find_copies_of
from pi05.check.subject import Recipe, Subject
from pi05.data.lerobot.identity import is_data_of
from pi05.finding import Finding, error, warning


def check_leakage(subject: Subject, recipe: Recipe) -> Iterator[Finding]:
    """Yield held-out episodes that are trained on, or were."""
    if not len(recipe.held_out):
        return
    yield from _duplicates(subject, recipe)
    yield from _seen_by_base(subject, recipe)


def _duplicates(subject: Subject, recipe: Recipe) -> Iterator[Finding]:
    """Name recordings that are on both sides, whole or in pieces."""
    pairs = find_copies_of(subject.dataset, recipe.held_out, recipe.train_episodes)
    if pairs:
        held = sorted(copy.episode for copy in pairs)
        yield error(
            "recipe.held_out_twice",
            "held-out episodes are copies of episodes that are trained on: "
            + ", ".join(map(str, pairs[:6]))
            + (", …" if len(pairs) > 6 else ""),
            "measures itself on what it has learned by heart, and takes the wrong checkpoint for its best",
            f"leave the copies out: --dataset.exclude_episodes='{held}'",
            {"pairs": [(copy.episode, copy.of) for copy in pairs]},
        )


def _seen_by_base(subject: Subject, recipe: Recipe) -> Iterator[Finding]:
    """Name held-out episodes that the base, a run of pi05 on this data, was trained on."""
    base = subject.base
    if base is None:
        return
    seen = set(base.trained_on.get("train_episodes") or ()) & set(recipe.held_out)
    if not seen or not is_data_of(subject.dataset, base.trained_on):
        return
    grown = "" if base.trained_on["frames"] == subject.dataset.num_frames else ", before it grew,"
    yield warning(
        "recipe.base_saw_held_out",
        f"the base was trained on this data set{grown} and on episodes that are held out now: "
        f"{', '.join(map(str, sorted(seen)[:8]))}{', …' if len(seen) > 8 else ''}",
        "flatters itself: the base has learned these episodes by heart",
        "hold out what the base held out: the same --seed and --dataset.eval_split, and no other "
        "--dataset.episodes, as its run; or start from a base that has not seen this data",
        {"episodes": sorted(seen)},
    )
