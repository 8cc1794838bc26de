"""Which commit on the hub were files downloaded from? Read from what the hub's own client leaves on the disk.

FOLDER/.cache/huggingface/download/FILE.metadata   first line: the commit (`hf download --local-dir FOLDER`)
.../models--OWNER--NAME/snapshots/COMMIT/FILE      the client's cache
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

DOWNLOADS = Path(".cache", "huggingface", "download")
COMMIT = re.compile(r"[0-9a-f]{40}")
LEVELS = 4
"""How far above a file the folder of its download is looked for (a JAX checkpoint nests: params/d/FILE)."""


def read_revision(path: Path, files: Iterable[Path]) -> str | None:
    """Return the commit of the files; None when the download did not note it, or noted different ones."""
    for part, name in zip(path.absolute().parts, path.absolute().parts[1:], strict=False):
        if part == "snapshots" and COMMIT.fullmatch(name):
            return name
    commits = {_noted(file.absolute()) for file in files}
    return commits.pop() if len(commits) == 1 else None


def _noted(file: Path) -> str | None:
    """Return the commit in the note beside a downloaded file."""
    for folder in list(file.parents)[:LEVELS]:
        relative = file.relative_to(folder)
        note = folder / DOWNLOADS / relative.parent / f"{relative.name}.metadata"
        if note.is_file():
            first = note.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
            return first if COMMIT.fullmatch(first) else None
    return None
