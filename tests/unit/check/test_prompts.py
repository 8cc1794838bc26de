"""Prompts that are too long, may become so, or lose words in the tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from check_subjects import found, make_subject, write_set
from fakes import prompt_words, write_word_tokenizer

from pi05.check.recipe import check_recipe
from pi05.data.lerobot.reader import Dataset
from pi05.data.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_set(tmp_path_factory.mktemp("sound") / "set")


def longest(dataset: Dataset) -> tuple[int, int]:
    """Return the tokens of the longest prompt there is, and of the longest that there could be."""
    numbers = found(check_recipe(make_subject(dataset)))["recipe.prompt"].numbers
    return numbers["tokens"], numbers["possible"]


def test_a_prompt_too_long_is_an_error_and_one_that_may_become_so_a_warning(dataset: Dataset) -> None:
    there, possible = longest(dataset)
    assert there <= possible
    too_long = found(check_recipe(make_subject(dataset, max_prompt_tokens=there - 1)), "error")
    assert set(too_long) == {"recipe.prompt_too_long"}
    assert str(there) in too_long["recipe.prompt_too_long"].text
    states = dataset.states()
    middle = make_subject(dataset, max_prompt_tokens=possible - 1)
    if there < possible:
        assert set(found(check_recipe(middle), "warning")) == {"recipe.prompt_may_be_too_long"}
    assert states is dataset.states()
    assert found(check_recipe(make_subject(dataset, max_prompt_tokens=possible)), "error", "warning") == {}


def test_words_that_the_tokenizer_does_not_know_are_lost(dataset: Dataset, tmp_path: Path) -> None:
    """`drawer` and `left` have no token there."""
    words = Tokenizer.load(write_word_tokenizer(tmp_path / "tokenizer.json", prompt_words()))
    subject = make_subject(dataset, tokenizer=words)
    refused = found(check_recipe(subject), "error")
    assert set(refused) == {"recipe.prompt_lost"}
    assert refused["recipe.prompt_lost"].numbers["tasks"] == ["open the left drawer"]


def test_of_a_tokenizer_that_is_not_known_nothing_is_counted(dataset: Dataset, tmp_path: Path) -> None:
    words = Tokenizer.load(write_word_tokenizer(tmp_path / "tokenizer.json", prompt_words()))
    subject = make_subject(dataset, tokenizer=words)
    assert subject.recipe is not None
    unknown = replace(subject, recipe=replace(subject.recipe, tokenizer_known=False))
    assert not {name for name in found(check_recipe(unknown)) if name.startswith("recipe.prompt")}


@pytest.mark.parametrize("prompt_format", ["state", "state32", "none"])
def test_every_format_is_counted(dataset: Dataset, prompt_format: str) -> None:
    subject = make_subject(dataset, prompt_format=prompt_format, max_prompt_tokens=200)
    assert found(check_recipe(subject))["recipe.prompt"].numbers["tokens"] > 4
