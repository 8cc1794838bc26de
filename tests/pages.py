"""The pages of the documentation, for tests that read them: their prose, headings and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md"
PAGES = [ENGLISH, CHINESE, REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
TRAINING, MEMORY, ADAPTERS, SEVERAL_GPUS = (
    REPOSITORY / "docs" / f"{name}.md" for name in ("training", "memory", "adapters", "several-gpus")
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def name_of(page: Path) -> str:
    """Return the path of a page as the repository knows it."""
    return str(page.relative_to(REPOSITORY))


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def section(page: Path, heading: str) -> str:
    """Return what stands under a heading, up to the next one of its level."""
    level = heading.partition(" ")[0]
    return prose(page).split(f"{heading}\n")[1].split(f"\n{level} ")[0]


def rows(page: Path) -> Iterator[list[str]]:
    """Yield the rows of a page's tables, cell by cell."""
    return table_rows(prose(page))


def table_rows(text: str) -> Iterator[list[str]]:
    """Yield the rows of the tables in a text, cell by cell."""
    for line in text.splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|:\- ]+", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]
