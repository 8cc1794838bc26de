"""What LeRobot's folders call their tokenizer, rewritten to where it lies here, so that nothing is looked up.

LeRobot 0.6.1 takes a path there as it is from the working directory, so that it has to be absolute.
"""

from __future__ import annotations

from pathlib import Path

from pi05.checkpoint.lerobot.tokenizer_name import PREPROCESSOR, find_tokenizer_name, point_tokenizer
from pi05.revision import RECEIPT
from pi05.sources.cache import cache_folders, find_snapshot
from pi05.sources.faults import Say
from pi05.sources.names import FOLDERS, PALIGEMMA, Source, parse_name
from pi05.sources.places import lab_folders, lacks_tokenizer
from pi05.sources.receipt import read_receipt
from pi05.sources.transfer import hash_file


def point_at_tokenizers(folder: Path, say: Say) -> list[Path]:
    """Rewrite the references of a folder, and of those beside it, to tokenizers that are here; return what was changed.

    Beside it: the folders that labs keep, and others with a receipt. A name whose tokenizer is not here is said, of
    `folder` itself only.
    """
    changed = []
    parent = folder.absolute().parent
    beside = [parent / name for name in FOLDERS.values()]
    beside += [path.parent for path in parent.glob(f"*/{RECEIPT}")]
    for place in dict.fromkeys([folder.absolute(), *beside]):
        if not (place / PREPROCESSOR).is_file():
            continue
        name = find_tokenizer_name(place)
        if name is None or lacks_tokenizer(Path(name)) is None:
            continue
        original = _original(place, name)
        found = find_tokenizer(place, original)
        if found is not None:
            _point(place, name, original, found)
            say(f"{place / PREPROCESSOR}: tokenizer_name {name} is {found} from now on")
            changed.append(place)
        elif place == folder.absolute():
            say(f"note: LeRobot will look {original} up on the hub until it is here: pi05 fetch tokenizer")
    return changed


def _original(place: Path, name: str) -> str:
    """Return the repository that a folder named before its reference was rewritten."""
    receipt = read_receipt(place)
    return name if receipt is None else str(receipt.rewritten.get(PREPROCESSOR, {}).get("was", name))


def find_tokenizer(folder: Path, name: str) -> Path | None:
    """Return the absolute folder of a tokenizer on this machine: inside, beside, in a lab's place, in the cache."""
    if lacks_tokenizer(folder) is None:
        return folder / "tokenizer" if lacks_tokenizer(folder / "tokenizer") is None else folder
    if Path(name).is_absolute():  # rewritten on another machine, or before the folder was moved
        moved = folder.parent / Path(name).name
        return moved.absolute() if lacks_tokenizer(moved) is None else None
    source = parse_name(name, "tokenizer")
    if source is None:
        return None
    usual = FOLDERS[PALIGEMMA] if source.name == PALIGEMMA else source.folder
    for place in (folder.parent / usual, *(lab / usual for lab, _ in lab_folders())):
        receipt = read_receipt(place)
        if lacks_tokenizer(place) is None and (source.name == PALIGEMMA if receipt is None else receipt.name == name):
            return place.absolute()
    return _in_cache(source)


def _in_cache(source: Source) -> Path | None:
    snapshots = (find_snapshot(cache, source) for cache in cache_folders())
    return next((path for path in snapshots if path is not None and lacks_tokenizer(path) is None), None)


def _point(place: Path, name: str, original: str, tokenizer: Path) -> None:
    point_tokenizer(place, str(tokenizer))
    receipt = read_receipt(place)
    if receipt is not None and PREPROCESSOR in receipt.files:
        facts = {"why": "tokenizer_name", "was": original, "sha256": hash_file(place / PREPROCESSOR)}
        receipt.rewritten[PREPROCESSOR] = facts
        receipt.write(place)
