"""Which commit on the hub were files downloaded from? Read from what the download left on the disk.

FOLDER/pi05_fetch.json                             "commit" (`pi05 fetch`)
FOLDER/.cache/huggingface/download/FILE.metadata   first line: the commit (`hf download --local-dir FOLDER`)
.../models--OWNER--NAME/snapshots/COMMIT/FILE      the cache of the hub's client
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

DOWNLOADS = Path(".cache", "huggingface", "download")
RECEIPT = "pi05_fetch.json"
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
        receipt = folder / RECEIPT
        if receipt.is_file():
            return _in_receipt(receipt, relative.as_posix())
        note = folder / DOWNLOADS / relative.parent / f"{relative.name}.metadata"
        if note.is_file():
            first = note.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
            return first if COMMIT.fullmatch(first) else None
    return None


def _in_receipt(receipt: Path, name: str) -> str | None:
    try:
        values = json.loads(receipt.read_text(encoding="utf-8"))
        commit = values["commit"] if name in values["files"] else ""
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return commit if isinstance(commit, str) and COMMIT.fullmatch(commit) else None
