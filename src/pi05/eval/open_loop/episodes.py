"""Which recorded episodes are evaluated, and who was trained on them.

"Held out" is what a policy's own run has noted, never computed anew: another seed or share would call an episode held
out that was trained on. It counts only on the data set that the run has seen. Episodes that a policy was trained on may
be evaluated, and are told as such: there a policy may be good because it remembers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pi05.data.lerobot.identity import is_data_of
from pi05.data.lerobot.reader import Dataset
from pi05.errors import EvaluationError
from pi05.eval.open_loop.candidate import Candidate

Wanted = Literal["held-out", "all"] | tuple[int, ...]
SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class ChosenEpisodes:
    """The episodes of an evaluation, and those that baselines may learn from."""

    numbers: tuple[int, ...]
    asked: str
    """held-out, all, or given: how they were asked for."""
    reference: tuple[int, ...]
    """What mean, standard deviation and nearest frames are taken from."""
    reference_is: str
    """What those are, in words."""
    trained_on: Mapping[str, tuple[int, ...] | None]
    """By policy: the evaluated episodes that it was trained on; None: nobody knows."""

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before any number."""
        found = []
        groups: dict[tuple[int, ...] | None, list[str]] = {}
        for name, numbers in self.trained_on.items():
            groups.setdefault(numbers, []).append("the policy" if name == "policy" else name)
        for numbers, names in groups.items():
            who = " and ".join(names)
            if numbers:
                share = (
                    "these episodes were"
                    if len(numbers) == len(self.numbers)
                    else f"{len(numbers)} of {len(self.numbers)} episodes were"
                )
                found.append(
                    f"{share} trained on by {who} ({listed(numbers)}): the error there says how well it remembers, not "
                    "how well it will do"
                )
            elif numbers is None:
                found.append(
                    f"nobody knows whether {who} was trained on these episodes: its folder does not tell, or "
                    "this is another data set than its run has seen"
                )
        return found


def choose_episodes(wanted: Wanted, dataset: Dataset, candidates: Sequence[Candidate]) -> ChosenEpisodes:
    """Decide on the episodes. Raises EvaluationError where nobody knows which are held out, and for unknown numbers."""
    same = {c.name: c.record is not None and is_data_of(dataset, c.record.data) for c in candidates}
    if wanted == "held-out":
        numbers = _held_out(candidates, same, dataset)
    elif wanted == "all":
        numbers = tuple(range(dataset.num_episodes))
    else:
        numbers = wanted
        _require_there(numbers, dataset)
    trained = {
        candidate.name: tuple(sorted({*candidate.record.train} & {*numbers}))
        if candidate.record is not None and same[candidate.name]
        else None
        for candidate in candidates
    }
    reference, words = _reference(numbers, dataset, candidates[0], same[candidates[0].name])
    asked = wanted if isinstance(wanted, str) else "given"
    return ChosenEpisodes(numbers=numbers, asked=asked, reference=reference, reference_is=words, trained_on=trained)


def _held_out(candidates: Sequence[Candidate], same: Mapping[str, bool], dataset: Dataset) -> tuple[int, ...]:
    for candidate in candidates:
        record = candidate.record
        if record is None:
            raise EvaluationError(
                f"{candidate.path} does not tell which episodes its run held out",
                wanted="the training state of a checkpoint of pi05",
                found=f"none in {candidate.location.folder}",
                remedy="evaluate the run's own checkpoint, or name episodes that were not trained on: "
                "--episodes='[3, 17]'; --episodes=all takes all of them",
            )
        if not same[candidate.name]:
            raise EvaluationError(
                f"this is not the data set that {candidate.path} was trained on, or more was done to it than adding",
                wanted=f"the {record.data.get('frames', '?')} frames that its run has noted, with the same numbers",
                found=f"{dataset.root} with {dataset.num_frames} frames",
                remedy="give that data set, or name the episodes: --episodes='[3, 17]', or --episodes=all",
            )
        if not record.held_out:
            raise EvaluationError(
                f"the run of {candidate.path} held no episode out",
                wanted="at least one",
                found="all were trained on",
                remedy="train with --dataset.eval_split above 0; or name recorded episodes that are new to it, in a "
                "data set of their own with --episodes=all",
            )
    sets = [set(candidate.record.held_out) for candidate in candidates if candidate.record is not None]
    common = sorted(set.intersection(*sets))
    if any(held != sets[0] for held in sets):
        shown = "[" + ", ".join(map(str, common)) + "]"
        raise EvaluationError(
            "these policies' runs held different episodes out",
            wanted="the same ones, so that all are measured alike",
            found="; ".join(f"{c.path}: {listed(c.record.held_out)}" for c in candidates if c.record is not None),
            remedy=f"--episodes='{shown}' are those that none was trained on" if common else "evaluate one at a time",
        )
    return tuple(common)


def _require_there(numbers: Sequence[int], dataset: Dataset) -> None:
    strangers = [number for number in numbers if number >= dataset.num_episodes]
    if strangers:
        raise EvaluationError(
            "--episodes names episodes that the data set has not",
            wanted=f"numbers from 0 to {dataset.num_episodes - 1}",
            found=listed(strangers),
            remedy="correct --episodes",
        )


def _reference(
    numbers: Sequence[int], dataset: Dataset, candidate: Candidate, same: bool
) -> tuple[tuple[int, ...], str]:
    if same and candidate.record is not None and candidate.record.train:
        return candidate.record.train, "the episodes that were trained on"
    others = tuple(number for number in range(dataset.num_episodes) if number not in set(numbers))
    if others:
        return others, "the other episodes of the data set"
    return tuple(numbers), "the evaluated episodes themselves"


def listed(episodes: Sequence[int]) -> str:
    """Return episodes as text: 3, 17 and 5 more."""
    shown = ", ".join(map(str, episodes[:SHOWN]))
    return shown + (f" and {len(episodes) - SHOWN} more" if len(episodes) > SHOWN else "")
