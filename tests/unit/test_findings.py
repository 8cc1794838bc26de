"""Every finding of the checks and of the watchers has a test that trips it and one that does not (`proofs.py`)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from proofs import CHECKPOINT_PROOFS, LOOKED_AT, PROOFS, SOURCE, makers, recorded, watched

from pi05.check.config import ALLOWANCE_OF, REFUSING
from pi05.check.opening import NAMES
from pi05.finding import note

REPOSITORY = Path(__file__).resolve().parents[2]
FILLED_IN = {
    "base.statistics_*": {"state", "action"},
    "base.*": {"resize", "prompt_format"},
    "range.*": {"action", "state"},
    "recipe.range_*": {"action", "state"},
}
"""Names that are put together where the code runs, and what stands in their gaps."""


def topics() -> set[str]:
    """Return what of a data set its reader refuses, in one word each."""
    words = {"contents"}  # DataError's own, where none is given
    for file in (SOURCE / "data").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "topic" and isinstance(node.value, ast.Constant):
                words.add(str(node.value.value))
    return words


def names_in_the_source() -> set[str]:
    """Return the names of all findings that are notes, warnings or errors."""
    found: set[str] = set()
    for name in makers():
        prefix, gap, rest = name.partition("*")
        assert not gap or name in FILLED_IN, f"tell in FILLED_IN what {name} may become"
        found |= {prefix + word + rest for word in FILLED_IN[name]} if gap else {name}
    refused = {NAMES.get(topic, f"structure.{topic}") for topic in topics()}
    return found | set(ALLOWANCE_OF) | set(REFUSING) | refused | {"recipe.contents"}


def test_every_finding_has_a_test_that_trips_it_and_one_that_does_not() -> None:
    wanted = names_in_the_source()
    assert len(wanted) > 90
    assert sorted(wanted - set(PROOFS)) == [], "without a test"
    assert sorted(set(PROOFS) - wanted) == [], "no such finding"
    assert [name for name, (trips, spares) in PROOFS.items() if trips == spares] == []


@cache
def functions_of(file: str) -> dict[str, bool]:
    """Return test → whether it has cases."""
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {
        function.name: any("parametrize" in ast.unparse(decorator) for decorator in function.decorator_list)
        for function in functions
    }


def test_every_test_that_is_named_is_there(request: pytest.FixtureRequest) -> None:
    """Cases are known to pytest alone: those of the files that it has collected beside this one are compared."""
    collected = {item.nodeid for item in request.session.items}
    files = {item.partition("::")[0] for item in collected}
    for test in {test for proof in (*PROOFS.values(), *CHECKPOINT_PROOFS.values()) for test in proof}:
        file, _, name = test.partition("::")
        function, case, _ = name.partition("[")
        assert function in functions_of(file), test
        assert not case or functions_of(file)[function], f"{test} has no cases"
        if case and any(item.startswith(f"{file}::{function}[") for item in collected) and file in files:
            assert test in collected, f"no such case: {test}"


def test_a_test_that_does_not_do_what_is_said_of_it_fails() -> None:
    trips, spares = PROOFS["language.underscores"]
    with pytest.raises(AssertionError, match="shall trip"), watched(trips):
        pass
    with pytest.raises(AssertionError, match="shall not trip"), watched(spares):
        note("language.underscores", "made")
    with pytest.raises(AssertionError, match="runs nothing"), watched(spares):
        pass
    with watched("tests/unit/test_findings.py::another"):
        pass


def test_the_watch_leaves_findings_as_they_were() -> None:
    with recorded() as (made, _):
        told = note("a.b", "text", numbers={"n": 1})
    assert (made, told.name, told.numbers) == ({"a.b"}, "a.b", {"n": 1})
    note("c.d", "text")
    assert made == {"a.b"}


def test_findings_are_made_where_they_are_looked_for() -> None:
    """A finding that another room makes would be missed; `doctor` has its own, on machines."""
    elsewhere = []
    for file in SOURCE.rglob("*.py"):
        inside = file.relative_to(SOURCE).as_posix()
        if inside.startswith((*(f"{folder}/" for folder in LOOKED_AT), "doctor/", "finding")):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "pi05.finding":
                made = {alias.name for alias in node.names} & {"error", "warning", "note"}
                elsewhere += [f"{inside}: {name}" for name in sorted(made)]
    assert elsewhere == []
