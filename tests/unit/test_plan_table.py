"""The READMEs' table of GPUs is the newest result of its benchmark, and that is what the code plans."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pages import REPOSITORY

BENCHMARK = REPOSITORY / "benchmarks" / "plan_table.py"
CHEAP = ("rtx4090", ("--method=expert",))
"""The row that is planned again here: it fits as it is, and most of its network has no backward pass."""


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plan_table", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def result() -> Any:
    return json.loads(max((BENCHMARK.parent / "results").glob("plan_table_????-??-??.json")).read_text())


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_table_is_the_newest_result(benchmark: ModuleType, result: Any, page: str) -> None:
    start, end = benchmark.MARKS
    committed = (REPOSITORY / page).read_text(encoding="utf-8").split(start)[1].split(end)[0]
    assert committed == benchmark.table(result["rows"], page)


def test_the_result_has_every_row_and_says_that_it_is_predicted(benchmark: ModuleType, result: Any) -> None:
    assert [(row["gpu"], tuple(row["flags"])) for row in result["rows"]] == list(benchmark.ROWS)
    assert (result["preset"], result["measured"]) == (benchmark.PRESET, False)
    assert all(row["needed_gib"] <= row["available_gib"] for row in result["rows"])


def test_a_row_is_what_the_code_plans(benchmark: ModuleType, result: Any) -> None:
    (stored,) = (row for row in result["rows"] if (row["gpu"], tuple(row["flags"])) == CHEAP)
    assert benchmark.ask(*CHEAP) == stored


def test_marks_that_are_missing_are_an_error(benchmark: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a page without marks\n")
    with pytest.raises(ValueError, match="not enough values"):
        benchmark.put(page, "| |\n")
    assert page.read_text() == "a page without marks\n"
