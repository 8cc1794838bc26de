"""docs/killers.md: every silent killer is there, with a test that provokes it, and that test exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "killers.md"
KILLERS = 31
ROW = re.compile(r"^\| (\d+)(?: \S+)? \|.*$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def names_in(file: str) -> frozenset[str]:
    """Return the names of the tests of a file."""
    path = REPOSITORY / file
    assert path.is_file(), f"{PAGE.name} names {file}, which is not there"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_all_killers_are_there_each_with_a_test_that_provokes_it() -> None:
    rows = list(ROW.finditer(PAGE.read_text(encoding="utf-8")))
    assert {int(row[1]) for row in rows} == set(range(1, KILLERS + 1))
    without = [row[0][:60] for row in rows if not TEST.search(row[0])]
    assert without == []


def test_every_test_that_is_named_exists() -> None:
    named = TEST.findall(PAGE.read_text(encoding="utf-8"))
    assert len(named) >= KILLERS
    assert [f"{file}::{name}" for file, name in named if name not in names_in(file)] == []
