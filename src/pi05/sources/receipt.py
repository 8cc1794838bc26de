"""What a folder was fetched from: `pi05_fetch.json` in it, or what the hub's cache says by its own names.

FOLDER/pi05_fetch.json             name, type, revision, commit, and size and hash of every file
.../models--OWNER--NAME/snapshots/COMMIT/FILE → ../../blobs/HASH            the cache; HASH as the hub told it
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pi05.errors import HubError
from pi05.files import parse_object, read_notes, write_json
from pi05.revision import RECEIPT
from pi05.sources.transfer import hash_file

FORMAT = "pi05-fetch"
CACHED = re.compile(r"(models|datasets)--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})(?:/|$)")
"""A folder in the cache of the hub's client: type, owner, name, commit."""
LISTED = 200
"""Files up to which a record names each of them; of more it has their number and one hash over all."""


@dataclass(kw_only=True)
class Receipt:
    """What lies in a folder, and where it is from."""

    name: str
    kind: str
    revision: str | None
    commit: str
    endpoint: str
    fetched: str
    """Date and time, UTC."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Path → size, sha256, and tag: the hash that the hub told."""
    rewritten: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Path → why a file is not as it was fetched, and its sha256 since."""

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        write_json(folder / RECEIPT, {"format": FORMAT, "version": 1, **vars(self)})


def now() -> str:
    """Return the present as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_receipt(folder: Path) -> Receipt | None:
    """Return the receipt in a folder; None where there is none, or none that can be read."""
    values = read_notes(folder / RECEIPT)
    if values.pop("format", None) != FORMAT:
        return None
    values.pop("version", None)
    try:
        return Receipt(**values)
    except TypeError:
        return None


def verify(folder: Path) -> Receipt:
    """Compare every file with the receipt. Raises HubError naming what differs or is gone."""
    try:
        parse_object(folder / RECEIPT)
    except (OSError, ValueError) as error:
        raise HubError(
            f"{folder} says nothing of where it is from",
            wanted=f"{RECEIPT}, which pi05 fetch writes",
            found=str(error),
            remedy="fetch it again: pi05 fetch NAME --to FOLDER compares what is there with the hub",
        ) from error
    receipt = read_receipt(folder)
    if receipt is None:
        raise HubError(
            f"{folder / RECEIPT} is no receipt of this program", found="other fields", remedy="fetch it again"
        )
    wrong = []
    for path, facts in receipt.files.items():
        wanted = receipt.rewritten.get(path, facts)
        place = folder / path
        if not place.is_file():
            wrong.append(f"{path} is gone")
        elif path not in receipt.rewritten and place.stat().st_size != facts["size"]:
            wrong.append(f"{path} has {place.stat().st_size:,} bytes, not {facts['size']:,}")
        elif (found := hash_file(place)) != wanted["sha256"]:
            wrong.append(f"{path} has SHA-256 {found[:12]}…, not {wanted['sha256'][:12]}…")
    if wrong:
        raise HubError(
            f"{folder} is not what was fetched",
            wanted=f"{len(receipt.files)} files of {receipt.name} at {receipt.commit[:8]}",
            found="; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""),
            remedy="fetch it again; what is whole stays: "
            f"pi05 fetch {receipt.name}@{receipt.commit} --repo-type={repo_type_of(receipt)} --to {folder}",
        )
    return receipt


def repo_type_of(receipt: Receipt) -> str:
    """Return the hub's word for what the repository is."""
    return "dataset" if receipt.kind in ("dataset", "assets") else "model"


def describe_source(path: str | Path) -> dict[str, Any] | None:
    """Return for the record of a run where a file or folder was fetched from; None where nothing tells.

    The fields: name, revision (as asked for), commit, folder, number of files, `sha256_of_all` over their hashes, and
    up to 200 files with size and hash.
    """
    place = Path(path).absolute()
    for folder in (place, *place.parents[:3]):
        receipt = read_receipt(folder)
        if receipt is not None and receipt.kind != "bundle":
            files = {name: {**facts, **receipt.rewritten.get(name, {})} for name, facts in receipt.files.items()}
            return _record(receipt.name, receipt.revision, receipt.commit, folder, files)
    found = CACHED.search(place.as_posix())
    if found is None:
        return None
    folder = Path(place.as_posix()[: found.end()])
    files = {
        file.relative_to(folder).as_posix(): {"size": file.stat().st_size, "tag": file.resolve().name}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    return _record(f"{found[2]}/{found[3]}", None, found[4], folder, files)


def _record(
    name: str, revision: str | None, commit: str, folder: Path, files: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    hashes = "\n".join(f"{path} {facts.get('sha256') or facts.get('tag')}" for path, facts in sorted(files.items()))
    return {
        "name": name,
        "revision": revision,
        "commit": commit,
        "folder": str(folder),
        "number_of_files": len(files),
        "sha256_of_all": hashlib.sha256(hashes.encode()).hexdigest(),
        **({"files": files} if len(files) <= LISTED else {}),
    }
