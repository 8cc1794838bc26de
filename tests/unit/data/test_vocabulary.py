"""Two tokenizers are the same where they number text alike, whatever their files look like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import write_tokenizer

from pi05.data.tokenizer import Tokenizer
from pi05.data.vocabulary import PALIGEMMA_IDS, difference_from_paligemma, first_difference


def rewritten(path: Path, out: Path, swap: tuple[str, str] | None = None) -> Tokenizer:
    """Load a copy of a tokenizer in other bytes, with the ids of two of its tokens exchanged."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if swap is not None:
        vocabulary = content["model"]["vocab"]
        one, other = swap
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    out.write_text(json.dumps(content, indent=3), encoding="utf-8")
    return Tokenizer.load(out)


@pytest.mark.parametrize("swap", [("a", "b"), ("7", "8"), ("Ġ", "z"), (":", ";")])
def test_exchanged_ids_are_found(tmp_path: Path, swap: tuple[str, str]) -> None:
    path = write_tokenizer(tmp_path / "tokenizer.json")
    own = Tokenizer.load(path)
    same = rewritten(path, tmp_path / "same.json")
    assert same.sha256 != own.sha256
    assert first_difference(own, same) is None
    difference = first_difference(own, rewritten(path, tmp_path / "other.json", swap))
    assert difference is not None
    assert difference.wanted != difference.found
    assert own.encode(difference.text) == difference.wanted


def test_the_known_ids_are_those_of_the_real_one(shared: Path) -> None:
    gemma = Tokenizer.load(shared / "tokenizer" / "gemma")
    assert difference_from_paligemma(gemma) is None


def test_another_tokenizer_is_not_paligemmas(tmp_path: Path) -> None:
    difference = difference_from_paligemma(Tokenizer.load(write_tokenizer(tmp_path / "tokenizer.json")))
    assert difference is not None
    assert tuple(difference.wanted) == PALIGEMMA_IDS
