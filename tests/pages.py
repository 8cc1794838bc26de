"""The pages of the documentation, for tests that read them: their names and their prose."""

from __future__ import annotations

import re
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
