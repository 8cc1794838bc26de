"""Tables and numbers of the pages are what `benchmarks/docs_tables.py` writes: settings, network, newest results."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from programs import load_program


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load_program("benchmarks/docs_tables.py")


@pytest.fixture(scope="module")
def pages(program: ModuleType) -> dict[Path, str]:
    return {page: page.read_text(encoding="utf-8") for page in program.PAGES}


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_number_is_what_the_program_writes(program: ModuleType, pages: dict[Path, str], slow: bool) -> None:
    left_out = frozenset() if slow else program.SLOW
    written = program.generated(pages, left_out)
    stale = [page.name for page in pages if written[page] != pages[page]]
    assert not stale, "run benchmarks/docs_tables.py"


def test_wrong_numbers_are_written_anew(program: ModuleType, pages: dict[Path, str]) -> None:
    """One of each: a setting, a size, a measurement in a table, numbers in a sentence of two pages."""
    spoilt = dict(pages)
    for right, wrong in (
        ("| `--keep_checkpoints` | 3 |", "| `--keep_checkpoints` | 4 |"),
        ("| 526,647,296 |", "| 526,647,297 |"),
        ("| everything | 60 MB |", "| everything | 61 MB |"),
        ("10.6 MB per frame with two cameras (11 GB", "10.7 MB per frame with two cameras (12 GB"),
        ("1,855,072 parameters", "1,855,071 parameters"),
    ):
        found = [page for page, text in spoilt.items() if right in text]
        assert found, right
        spoilt |= {page: spoilt[page].replace(right, wrong) for page in found}
    assert program.generated(spoilt, program.SLOW) == pages


def test_what_is_not_known_is_an_error(program: ModuleType, pages: dict[Path, str]) -> None:
    def change(right: str, wrong: str) -> dict[Path, str]:
        return {page: text.replace(right, wrong) for page, text in pages.items()}

    with pytest.raises(ValueError, match=r"without a marker in the pages.*\['roofline'\]"):
        program.generated(change("<!-- table: roofline -->\n", ""), program.SLOW)
    with pytest.raises(ValueError, match=r"row that is not known: \| half of the time"):
        program.generated(change("| half of the layers |", "| half of the time |"), program.SLOW)
    with pytest.raises(ValueError, match="no page says: collects # scripted demonstrations"):
        program.generated(change("scripted demonstrations", "demonstrations"), program.SLOW)
