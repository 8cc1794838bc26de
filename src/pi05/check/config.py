"""Which findings can refuse a run, by name: what `--allow` may pass over. Torch-free.

Findings are named SUBJECT.WHAT. Those that never are errors are not here: there is nothing to pass over.
"""

from __future__ import annotations

ALLOWANCE_OF = {
    "structure.clock": "timestamps",
    "structure.index": "index",
    "structure.tasks": "tasks",
}
"""Findings on what the reader refuses, and the words of the reader's own `allow`, which mean the same."""

REFUSING: tuple[str, ...] = (
    *ALLOWANCE_OF,
    "numbers.frozen_state",
    "numbers.units",
    "numbers.wrap",
    "pictures.empty",
    "pictures.frozen",
    "pictures.same_camera",
    "recipe.far_action",
    "recipe.held_out_twice",
    "recipe.prompt_lost",
    "recipe.prompt_too_long",
    "recipe.range_action",
    "recipe.range_state",
    "recipe.relative_actions",
    "base.edited",
    "base.embedding_scale",
    "base.loss",
    "base.not_finite",
    "base.pictures_without_effect",
    "base.prompt_without_effect",
    "base.statistics_action",
    "base.statistics_state",
    "base.vision_dead",
)
"""Findings that are errors and may be passed over with --allow=NAME. What cannot be read at all is not among them."""


def as_names(allow: tuple[str, ...]) -> frozenset[str]:
    """Return the findings that are passed over, the reader's own words translated."""
    words = {word: name for name, word in ALLOWANCE_OF.items()}
    return frozenset(words.get(word, word) for word in allow)


def as_words(allow: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the data set's reader is to pass over, in its own words."""
    return tuple(
        dict.fromkeys(ALLOWANCE_OF.get(name, name) for name in allow if "." not in ALLOWANCE_OF.get(name, name))
    )
