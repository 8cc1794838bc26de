"""Is a policy asked in words that its demonstrations had?

Asked in others, with another verb, without the full stop, or for nothing at all, it moves just as smoothly, and what it
does is what the base has made of such words, or nothing that was meant. So a checkpoint keeps the instructions of its
training, and an observation with another one is told. All instructions here are as prompts have them
(`prompt.clean_task`), so that underscores do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from pi05.errors import DataError

MOST = 1000
"""More instructions than these are a language, not a list: other sentences are what such a policy is for."""
MOST_COMPARED = 100
"""Looking for the nearest sentence costs 0.1 ms for each, and whoever asks may ask anything."""
LENGTH_TOLD = 200
"""Characters of an instruction in a message."""


@dataclass(frozen=True, kw_only=True)
class Unheard:
    """An instruction that no demonstration of the training had."""

    task: str
    known: tuple[str, ...]
    """Those of the training, sorted."""

    def __str__(self) -> str:
        asked = repr(_shortened(self.task)) if self.task else "the empty one"
        few = len(self.known)
        trained = f"the only one of the training: {self.known[0]!r}" if few == 1 else f"one of the training's {few}"
        near = "" if few == 1 else _nearest(self.task, self.known)
        return f"the instruction is {asked}, not {trained}{near}"


def instructions_of(tasks: Iterable[str]) -> tuple[str, ...]:
    """Return the different instructions of a training, sorted; none where they are too many."""
    found = sorted(set(tasks))
    return tuple(found) if len(found) <= MOST else ()


def unheard(task: str, known: Collection[str]) -> Unheard | None:
    """Return what is odd about an instruction; None where the training had it, or where that is not known."""
    return None if not known or task in known else Unheard(task=task, known=tuple(sorted(known)))


def require_heard(found: Unheard | None) -> None:
    """Raise DataError for an instruction that the training did not have."""
    if found is not None:
        raise DataError(
            "the policy was not trained on this instruction",
            wanted="an instruction of the demonstrations, word for word",
            found=str(found),
            remedy="ask in the words of the data set; or go on without --strict: the answers' warnings tell the same",
        )


def _nearest(task: str, known: tuple[str, ...]) -> str:
    """Return the sentences of the training that are most like this one, where there are any."""
    if len(known) > MOST_COMPARED:
        return ""
    by_folded = {sentence.casefold(): sentence for sentence in known}
    found = get_close_matches(task[:LENGTH_TOLD].casefold(), by_folded, n=2)
    return f"; nearest: {', '.join(repr(_shortened(by_folded[text])) for text in found)}" if found else ""


def _shortened(text: str) -> str:
    return text if len(text) <= LENGTH_TOLD else f"{text[:LENGTH_TOLD]}…"
