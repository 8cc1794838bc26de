"""The prompt as tokens: does it fit, does it come out of the tokenizer as it went in, how long may it become?"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from pi05.check.normalised import sample_frames
from pi05.check.subject import Recipe, Subject
from pi05.data.processor import Processor
from pi05.data.prompt import STATE_BINS, clean_task, format_prompt
from pi05.errors import DataError
from pi05.finding import Finding, error, note, warning

MOST_TASKS = 500
"""Distinct texts whose prompts are written."""
FRAMES = 256
"""Frames whose prompts are written."""


def check_prompts(subject: Subject, recipe: Recipe) -> Iterator[Finding]:
    """Yield what is wrong with the prompts of this data, or how long they are."""
    if not recipe.tokenizer_known:
        return
    processor, dataset = recipe.processor, subject.dataset
    frames = sample_frames(dataset, recipe.train_episodes, FRAMES)
    tasks = [dataset.task(int(frame)) for frame in frames]
    try:
        lengths = [len(ids) for ids in processor.encode_prompts(tasks, dataset.states()[frames])]
    except DataError as refusal:
        yield error(
            "recipe.prompt_too_long",
            f"{refusal.problem}: {(refusal.found or '').partition(':')[0]}, {refusal.wanted}",
            "stops at such a prompt; cut off, it would lose the state and the word that asks for actions",
            refusal.remedy,
        )
        return
    longest, text = _longest(subject, processor)
    longest = max(longest, *lengths)
    numbers = {"tokens": max(lengths), "possible": longest, "limit": processor.max_prompt_tokens}
    if longest > processor.max_prompt_tokens:
        yield warning(
            "recipe.prompt_may_be_too_long",
            f"prompts of this data have up to {max(lengths)} tokens; with other states the longest may have {longest}, "
            f"of {processor.max_prompt_tokens}: {text[:60]!r}",
            "may stop at a frame, or its policy refuse the robot, for the length of a prompt",
            f"--policy.tokenizer_max_length={-(-longest // 8) * 8}, or shorter tasks",
            numbers,
        )
    else:
        yield note(
            "recipe.prompt",
            f"format {processor.prompt_format}: up to {max(lengths)} tokens, about {longest} whatever the state, "
            f"of {processor.max_prompt_tokens}",
            numbers=numbers,
        )
    yield from _lost(processor, dict.fromkeys(tasks), dataset.states()[frames[0]])


def _longest(subject: Subject, processor: Processor) -> tuple[int, str]:
    """Return about the tokens of the longest prompt that a state could lead to, all its numbers the same; its task."""
    tasks = list(dict.fromkeys(task for number in subject.episodes for task in subject.dataset.episodes[number].tasks))
    chosen = sorted(tasks, key=len)[-MOST_TASKS:] or [""]
    if processor.prompt_format == "none":
        counts = [len(ids) for ids in processor.encode_prompts(chosen, None)]
        return max(counts), chosen[int(np.argmax(counts))]

    def count(task: str, values: np.ndarray) -> list[int]:
        states = (np.full(processor.state_dim, value) for value in values)
        texts = [format_prompt(task, state, processor.prompt_format) for state in states]
        return [len(ids) for ids in processor.tokenizer.encode_many(texts)]

    some = [count(task, np.array([0.0]))[0] for task in chosen]
    longest = chosen[int(np.argmax(some))]
    every_bin = np.linspace(-1, 1, STATE_BINS + 1) - 1 / STATE_BINS  # the first is the bin below the range
    return max(count(longest, every_bin)), longest


def _lost(processor: Processor, tasks: dict[str, None], state: np.ndarray) -> Iterator[Finding]:
    """Name prompts that the tokenizer does not give back: words without a token, an end that is gone."""
    broken = []
    for task in list(tasks)[:MOST_TASKS]:
        ids = processor.encode_prompts([task], state[None])[0]
        normal = None if processor.prompt_format == "none" else processor.state_normalizer.normalize(state[None])[0]
        wanted = format_prompt(task, normal, processor.prompt_format)
        if _letters(processor.tokenizer.decode(ids)) != _letters(wanted):
            broken.append((clean_task(task), processor.tokenizer.decode(ids)))
    if broken:
        task, told = broken[0]
        yield error(
            "recipe.prompt_lost",
            f"the tokenizer loses parts of the prompt of {len(broken)} tasks: {task[:60]!r} comes back as "
            f"{told[:80]!r}",
            "does not tell the network the task, or the state, as it is written",
            "use the tokenizer of the base; PaliGemma's writes every character (pi05 fetch tokenizer)",
            {"tasks": [task for task, _ in broken[:20]]},
        )


def _letters(text: str) -> str:
    """Return a text without the white space and case that tokenizers may change."""
    return re.sub(r"\s+", "", text).casefold()
