"""The tasks: what the policy is told to do, how often, and whether one thing is told in several spellings.

The text becomes the prompt (`data/prompt.py`); its length in tokens is the recipe's affair.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pi05.check.structure import MOST_NAMED, named
from pi05.check.subject import Subject
from pi05.data.prompt import clean_task
from pi05.finding import Finding, note, ok, warning

PLACEHOLDERS = frozenset(
    words
    for line in (
        "task|tasks|test|testing|todo|tbd|none|null|nan|na|n a|default|unknown|untitled|dummy|placeholder|foo|bar",
        "foobar|asdf|xxx|xyz|string|instruction|prompt|description|label|example|sample|demo|debug|trial|run|episode",
        "recording|valid|invalid|success|fail|failure|nothing|something|do something|perform the task|do the task",
        "describe the task|describe the task here|task description|enter task here|your task|your task here|my task",
        "single task|no task|language instruction|hello|hello world|lorem ipsum",
    )
    for words in line.split("|")
)
"""Texts, without case and punctuation, that tell no robot what to do."""
_DANGLING = re.compile(r"\b(?:the|a|an|and|or|of|to|into|onto|from|with|its|your)$", re.I)
_CUT = re.compile(r"(?:\.\.\.|…|-)$")


@dataclass(frozen=True)
class Task:
    """One text of the frames."""

    text: str
    frames: int
    episodes: tuple[int, ...]


def check_language(subject: Subject) -> Iterator[Finding]:
    """Yield what is found about the tasks of the episodes that are used."""
    tasks = read_tasks(subject)
    yield from _count(tasks)
    yield from _unused(subject, tasks)
    yield from _placeholders(tasks)
    yield from _truncated(tasks)
    yield from _spellings(tasks)
    yield from _underscores(tasks)
    yield from _characters(tasks)


def read_tasks(subject: Subject) -> list[Task]:
    """Return the distinct texts of the used frames, the most frequent first."""
    dataset = subject.dataset
    numbers = dataset.task_numbers()
    frames: defaultdict[str, int] = defaultdict(int)
    episodes: defaultdict[str, list[int]] = defaultdict(list)
    for index in subject.episodes:
        episode = dataset.episodes[index]
        own = numbers[episode.start : episode.start + episode.length]
        for first, count in zip(*np.unique(own, return_index=True, return_counts=True)[1:], strict=True):
            text = dataset.task(episode.start + int(first))
            frames[text] += int(count)
            if index not in episodes[text][-1:]:
                episodes[text].append(index)
    found = [Task(text, count, tuple(episodes[text])) for text, count in frames.items()]
    return sorted(found, key=lambda task: -task.frames)


def _quoted(tasks: list[Task]) -> str:
    told = ", ".join(f"{task.text[:80]!r}" for task in tasks[:MOST_NAMED])
    return told if len(tasks) <= MOST_NAMED else f"{told} and {len(tasks) - MOST_NAMED} more"


def _numbers(tasks: list[Task]) -> dict[str, object]:
    return {"tasks": [{"text": task.text, "frames": task.frames, "episodes": len(task.episodes)} for task in tasks]}


def _count(tasks: list[Task]) -> Iterator[Finding]:
    if len(tasks) > 1:
        told = ", ".join(f"{task.text[:60]!r} in {len(task.episodes)}" for task in tasks[:MOST_NAMED])
        more = "" if len(tasks) <= MOST_NAMED else f" and {len(tasks) - MOST_NAMED} more"
        found = ok("language.tasks", f"{len(tasks)} tasks, by episodes: {told}{more}")
        yield Finding(found.name, found.status, found.text, numbers=_numbers(tasks))
    else:
        yield note(
            "language.one_task",
            f"all frames have one task: {_quoted(tasks)}",
            "learns nothing from its words: the policy does the same whatever it is told",
            "for several behaviours record each with its own task; at deployment say this text, letter by letter",
            _numbers(tasks),
        )


def _unused(subject: Subject, tasks: list[Task]) -> Iterator[Finding]:
    shown = {task.text for task in tasks}
    unused = [text for text in subject.dataset.tasks if text not in shown]
    if unused and len(subject.episodes) == subject.dataset.num_episodes:
        told = ", ".join(repr(text[:60]) for text in unused[:MOST_NAMED])
        yield note(
            "language.unused_tasks",
            f"the task list has {len(unused)} texts that no frame shows: {told}",
            "does not see them",
            numbers={"tasks": unused[:100]},
        )


def _placeholders(tasks: list[Task]) -> Iterator[Finding]:
    found = [task for task in tasks if _plain(task.text) in PLACEHOLDERS or len(_plain(task.text)) < 2]
    if found:
        yield warning(
            "language.placeholder",
            f"{len(found)} of {len(tasks)} tasks tell no robot what to do: {_quoted(found)}",
            "ties what is shown to words that nobody will say at deployment",
            "write what is done into the task list in meta/, in the words that will be used at deployment",
            _numbers(found),
        )


def _plain(text: str) -> str:
    """Return a text without case, underscores, punctuation and doubled spaces: what is told, not how."""
    text = unicodedata.normalize("NFKC", clean_task(text)).casefold()
    return " ".join(re.sub(r"[^\w\s]|_", " ", text).split())


def _truncated(tasks: list[Task]) -> Iterator[Finding]:
    found = [task for task in tasks if _CUT.search(task.text.strip()) or _DANGLING.search(clean_task(task.text))]
    longest = max((len(task.text) for task in tasks), default=0)
    at_limit = [task for task in tasks if len(task.text) == longest]
    if longest in (64, 100, 128, 200, 255, 256) and len(at_limit) > 1:
        found = list(dict.fromkeys([*found, *at_limit]))
    if found:
        yield warning(
            "language.truncated",
            f"{len(found)} of {len(tasks)} tasks seem to be cut off: {_quoted(found)}",
            "learns half an instruction, which nobody will say at deployment",
            "complete them in the task list in meta/",
            _numbers(found),
        )


def _spellings(tasks: list[Task]) -> Iterator[Finding]:
    alike: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        alike[_plain(task.text)].append(task)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        yield warning(
            "language.spellings",
            f"{len(groups)} tasks are written in several ways: " + "; ".join(_quoted(group) for group in groups[:4]),
            "sees different tokens for the same task, and the words at deployment fit only some of the episodes",
            "write each in one way in the task list in meta/",
            {"groups": [[task.text for task in group] for group in groups]},
        )


def _underscores(tasks: list[Task]) -> Iterator[Finding]:
    found = [task for task in tasks if "_" in task.text]
    if found:
        yield warning(
            "language.underscores",
            f"{len(found)} of {len(tasks)} tasks are written with underscores: {_quoted(found)}; the prompt says "
            f"{clean_task(found[0].text)[:80]!r}",
            "learns the words with spaces; a server that does not replace underscores says other tokens, and a name "
            "in the place of an instruction says less than a sentence",
            "write the tasks as sentences, and say them so at deployment",
            _numbers(found),
        )


def _characters(tasks: list[Task]) -> Iterator[Finding]:
    found = [
        task for task in tasks if "\ufffd" in task.text or any(_is_control(letter) for letter in task.text.strip())
    ]
    if found:
        episodes = sorted({number for task in found for number in task.episodes})
        yield warning(
            "language.characters",
            f"{len(found)} of {len(tasks)} tasks hold characters that no text has, as after a wrong encoding: "
            f"{_quoted(found)} (episodes {named(episodes)})",
            "learns tokens that nobody can type at deployment",
            "correct them in the task list in meta/, in UTF-8",
            _numbers(found),
        )


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc" and letter not in "\n\t"
