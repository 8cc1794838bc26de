"""Repositories of the hub as folders: fetched, compared, pointed at each other, with a receipt.

A folder is taken over only where it holds what this repository holds, or says itself that it is of it; nothing of a
user's is overwritten. What the hub's cache has already is copied from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import Any

from pi05.errors import CheckpointError, HubError, tell
from pi05.files import remove_tree
from pi05.hub.config import FetchConfig
from pi05.hub.references import point_at_tokenizers
from pi05.revision import RECEIPT
from pi05.sources.cache import hub_cache, repository_folder
from pi05.sources.client import Listing, RemoteFile, endpoints, is_offline, list_repository
from pi05.sources.faults import Say
from pi05.sources.names import Source
from pi05.sources.progress import Progress
from pi05.sources.receipt import Receipt, now, read_receipt
from pi05.sources.transfer import Item, Transfer, alone, hash_file, mismatch
from pi05.sources.wanted import Needed, first_files, metadata_files

WORK = ".pi05-fetch"
"""Folder in the target for what has not arrived whole; it is gone when all is there."""
BESIDE = {RECEIPT, WORK, ".cache", ".git", ".gitattributes"}


def fetch_to(
    source: Source, folder: Path, config: FetchConfig, *, needed: Needed | None = None, say: Say = tell
) -> Receipt:
    """Fetch what is needed of a repository to a folder, and return the receipt that was written there.

    Raises HubError: nothing may be sent, no address has it, a folder of something else, no room.
    """
    if is_offline():
        raise HubError(
            f"{source} cannot be fetched: nothing may be sent",
            found="--offline, or HF_HUB_OFFLINE=1",
            remedy="unset HF_HUB_OFFLINE, or fetch it on another machine and copy the folder",
        )
    _require_same(folder, source)
    addresses = endpoints(config.mirror)
    listing = list_repository(source, addresses, say)
    transfer = Transfer(listing=listing, endpoints=addresses, say=say, progress=Progress(say), workers=config.workers)
    names = first_files(source, listing.files) if needed is None else metadata_files(listing.files)
    if not names:
        raise HubError(
            f"{source} holds no {source.kind}",
            found=", ".join(sorted(listing.files)[:8]) or "no file",
            remedy="check the name; a data set needs --repo-type=dataset",
        )
    with alone(folder / WORK / "lock", f"{source} to {folder}", say):
        before = read_receipt(folder)
        _bring(transfer, names, folder, before)
        if needed is not None:
            names = sorted({*names, *needed(folder, list(listing.files))})
            _bring(transfer, names, folder, before)
        receipt = _receipt(listing, names, folder, before)
        receipt.write(folder)
        remove_tree(folder / WORK)
    total = sum(facts["size"] for facts in receipt.files.values())
    say(f"{source} at {listing.commit[:8]} is in {folder}: {len(receipt.files)} files, {total / 1e6:,.1f} MB, verified")
    point_at_tokenizers(folder, say)
    return receipt


def _require_same(folder: Path, source: Source) -> None:
    """Raise HubError for a folder that is of another repository, or that is none."""
    if folder.exists() and not folder.is_dir():
        raise HubError(f"{folder} is a file", wanted="a folder", remedy="choose another one: --to FOLDER")
    receipt = read_receipt(folder)
    if receipt is not None and receipt.name != source.name:
        raise HubError(
            f"{folder} holds something else",
            wanted=f"{source.name}, or no such folder",
            found=receipt.name,
            remedy=f"{source.command()} --to ANOTHER_FOLDER, or move {folder} away",
        )


def _bring(transfer: Transfer, names: Sequence[str], folder: Path, before: Receipt | None) -> None:
    """Let the files come that are not there, whole; what is there is compared first."""
    items = []
    there = [name for name in names if (folder / name).is_file()]
    if there:
        transfer.say(f"comparing {len(there)} files that are in {folder} already")
    for name in names:
        file = transfer.listing.files[name]
        place = folder / name
        if place.is_file() and (mismatch(place, file) is None or _is_rewritten(place, file, before)):
            continue
        if place.is_file() and before is None and not _begun(folder, transfer.listing):
            raise HubError(
                f"{folder} holds something else",
                wanted=f"{name} as {transfer.listing.source} has it, or no such folder",
                found=mismatch(place, file),
                remedy=f"{transfer.listing.source.command()} --to ANOTHER_FOLDER, or move {folder} away",
            )
        part = folder / WORK / f"{sha1(name.encode()).hexdigest()[:16]}-{file.tag[:16]}.part"
        settle = partial(_settle, place=place)
        if _copied_from_cache(transfer.listing, file, part):
            settle(part)
        else:
            items.append(Item(file=file, part=part, settle=settle))
    _begin(folder, transfer.listing)
    if items:
        transfer.run(items, folder)


def _begun(folder: Path, listing: Listing) -> bool:
    """Tell whether an earlier, unfinished fetch of this repository left the files."""
    note = folder / WORK / "of"
    return note.is_file() and note.read_text(encoding="utf-8") == listing.source.name


def _begin(folder: Path, listing: Listing) -> None:
    (folder / WORK / "of").write_text(listing.source.name, encoding="utf-8")


def _settle(part: Path, *, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    part.replace(place)


def _copied_from_cache(listing: Listing, file: RemoteFile, part: Path) -> bool:
    """Copy a file that the hub's cache holds to the part file, and tell whether it is whole there."""
    blob = repository_folder(hub_cache(), listing.source) / "blobs" / file.tag
    if not blob.is_file() or blob.stat().st_size != file.size or part.exists():
        return False
    shutil.copyfile(blob, part)
    if mismatch(part, file) is None:
        return True
    part.unlink()
    return False


def _is_rewritten(place: Path, file: RemoteFile, before: Receipt | None) -> bool:
    """Tell whether a file differs only because its references were rewritten here, and is that of this commit else."""
    if before is None or file.path not in before.rewritten:
        return False
    same = before.files.get(file.path, {}).get("tag") == file.tag
    return same and hash_file(place) == before.rewritten[file.path]["sha256"]


def _receipt(listing: Listing, names: Sequence[str], folder: Path, before: Receipt | None) -> Receipt:
    files: dict[str, dict[str, Any]] = dict(before.files) if before and before.commit == listing.commit else {}
    rewritten = dict(before.rewritten) if before is not None else {}
    for name in names:
        file = listing.files[name]
        facts = {"size": file.size, "sha256": file.sha256 or hash_file(folder / name), "tag": file.tag}
        kept = name in rewritten and (before is not None and before.files.get(name, {}).get("tag") == file.tag)
        files[name] = before.files[name] if kept and before is not None else facts
        if not kept:
            rewritten.pop(name, None)
    return Receipt(
        name=listing.source.name,
        kind=listing.source.kind,
        revision=listing.source.revision,
        commit=listing.commit,
        endpoint=listing.endpoint.address,
        fetched=now(),
        files=dict(sorted(files.items())),
        rewritten=rewritten,
    )


def require_folder(folder: Path) -> None:
    """Raise CheckpointError unless a folder is there."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}", remedy="give a folder that pi05 fetch wrote")
