"""Whether two tokenizers say the same: what a network has learnt of a token holds for its number alone.

A tokenizer with other numbers for the same pieces fits by its size, trains, and starts from a language that it never
saw. Files differ for good reasons (tokenizer.json beside tokenizer.model), so ids are compared, not bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from pi05.data.tokenizer import Tokenizer

PROBES = (
    "Task: pick up the black bowl and put it on the plate, State: 128 127 3;\nAction: ",
    "Task: open the drawer, State: " + " ".join(map(str, range(256))) + ";\nAction: ",
    "the quick brown fox jumps over the lazy dog: left, right, front, behind, inside",
    "push red, green, blue, yellow, white and grey objects to the gripper's side\n",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789",
)
"""What prompts are made of."""
PALIGEMMA_TEXT = "Task: pick up the black bowl, State: 128 127 3;\nAction: "
PALIGEMMA_IDS = (
    *(7071, 235292, 4788, 908, 573, 2656, 14581, 235269, 3040, 235292, 235248, 235274, 235284, 235321, 235248, 235274),
    *(235284, 235324, 235248, 235304, 235289, 108, 4022, 235292, 235248),
)
"""Gemma's ids of that text; PaliGemma's tokenizer, with which every π₀.₅ of full size was trained, has the same."""


@dataclass(frozen=True)
class Difference:
    """The first text on which two tokenizers differ."""

    text: str
    wanted: list[int]
    found: list[int]


def first_difference(wanted: Tokenizer, found: Tokenizer) -> Difference | None:
    """Return the first probe that two tokenizers number differently; None where they agree on all."""
    if wanted.sha256 == found.sha256:
        return None
    pairs = zip(PROBES, wanted.encode_many(PROBES), found.encode_many(PROBES), strict=True)
    return next((Difference(text, one, other) for text, one, other in pairs if one != other), None)


def difference_from_paligemma(tokenizer: Tokenizer) -> Difference | None:
    """Return how a tokenizer numbers the known text, where that is not PaliGemma's way; else None."""
    found = tokenizer.encode(PALIGEMMA_TEXT, add_bos=False)
    return None if tuple(found) == PALIGEMMA_IDS else Difference(PALIGEMMA_TEXT, list(PALIGEMMA_IDS), found)
