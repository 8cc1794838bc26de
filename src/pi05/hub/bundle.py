"""All that a run needs, in one folder for a machine without a network.

OUT/pi05_base_model  paligemma_model  local_dataset    as `pi05 fetch` writes them, or copied from local folders
OUT/wheels                                             on request: the packages of this environment
OUT/train.sh                                           the run, with these folders
OUT/pi05_fetch.json                                    size and hash of every file: pi05 fetch --verify OUT
What is in OUT already is compared and kept, so that a bundle that broke off goes on.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from pi05.checkpoint.lerobot.tokenizer_name import PREPROCESSOR, find_tokenizer_name
from pi05.data.wanted import needed_files
from pi05.errors import ConfigError, HubError
from pi05.files import expand_home, write_atomic
from pi05.hub.config import FetchConfig
from pi05.hub.fetch import fetch_to
from pi05.hub.references import find_tokenizer, point_at_tokenizers
from pi05.hub.wheels import INSTALL, download_wheels
from pi05.revision import RECEIPT
from pi05.sources.faults import Say
from pi05.sources.names import DATASET_FOLDER, FOLDERS, PALIGEMMA, Kind, Source, parse_name
from pi05.sources.places import find_folder, lacks_tokenizer
from pi05.sources.receipt import Receipt, now, read_receipt
from pi05.sources.transfer import hash_file
from pi05.sources.wanted import Needed, choose_model, choose_tokenizer, metadata_files
from pi05.train.config import TINY_BASE, TrainConfig

SCRIPT = "train.sh"
TOKENIZER_FOLDER = FOLDERS[PALIGEMMA]
BASE_FOLDER = FOLDERS["lerobot/pi05_base"]
REPLACED = {
    *("bundle", "wheels", "mirror", "offline", "policy.path", "policy.pretrained_path", "policy.tokenizer_path"),
    *("policy.tokenizer_name", "dataset.root"),
}
"""Flags that the script writes itself, or that are no business of the run."""
SWITCHES = {"wheels", "offline"}


def make_bundle(
    out: Path,
    config: TrainConfig,
    arguments: Sequence[str],
    *,
    wheels: bool = False,
    mirrors: Sequence[str] = (),
    say: Say,
) -> None:
    """Write the bundle of a run. Raises HubError and what the readers of its parts raise."""
    _require_own(out)
    out.mkdir(parents=True, exist_ok=True)
    settings = FetchConfig(mirror=tuple(mirrors))
    flags = ["--offline"]
    given = config.dataset.root or config.dataset.repo_id
    if given is None:
        raise ConfigError(
            "a bundle needs a data set", wanted="--dataset.repo_id=NAME or --dataset.root=FOLDER", remedy="name it"
        )
    needed = needed_files(config.dataset.episodes, config.dataset.exclude_episodes or (), config.drop_cameras)
    _bring(given, "dataset", out / DATASET_FOLDER, settings, say, needed)
    flags.append(f"--dataset.root={DATASET_FOLDER}")
    path = None if config.from_scratch else config.policy.path
    packaged = path is not None and Path(path) == TINY_BASE
    if path is not None and not packaged:
        source = _source(path, "model")
        name = BASE_FOLDER if source is None else source.folder
        _bring(path, "model", out / name, settings, say)
        flags.append(f"--policy.path={name}")
        _bring_tokenizer(config.policy.tokenizer_path, out / name, out / TOKENIZER_FOLDER, settings, say)
        point_at_tokenizers(out / name, say)
    elif config.policy.tokenizer_path is not None:
        _bring(config.policy.tokenizer_path, "tokenizer", out / TOKENIZER_FOLDER, settings, say)
    if lacks_tokenizer(out / TOKENIZER_FOLDER) is None:
        flags.append(f"--policy.tokenizer_path={TOKENIZER_FOLDER}")
    if wheels:
        download_wheels(out / "wheels", say)
    write_script(out / SCRIPT, [*flags, *kept_flags(arguments)])
    _write_receipt(out)
    say(f"bundle: {out}; there: {f'{INSTALL}; ' * wheels}bash {SCRIPT}")


def _require_own(out: Path) -> None:
    """Raise HubError for a folder that holds something else than a bundle that was begun."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    known = {DATASET_FOLDER, *FOLDERS.values(), "wheels", SCRIPT, RECEIPT}
    strange = sorted(names - known) if not (out / RECEIPT).is_file() and not (out / SCRIPT).is_file() else []
    if strange:
        raise HubError(
            f"{out} holds something else",
            wanted="no such folder, or a bundle",
            found=", ".join(strange[:5]),
            remedy="choose another folder for --bundle",
        )


def _source(given: str, kind: Kind) -> Source | None:
    return None if expand_home(given).exists() else parse_name(given, kind)


def _bring(given: str, kind: Kind, folder: Path, settings: FetchConfig, say: Say, needed: Needed | None = None) -> None:
    """Fetch a repository to the folder, or copy what is needed of a local folder."""
    source = _source(given, kind)
    if source is not None:
        fetch_to(source, folder, settings, needed=needed, say=say)
        return
    place = expand_home(given)
    if not place.exists():
        place = find_folder(given) or place
    if not place.exists():
        raise HubError(f"there is no {given}", wanted="a folder, or OWNER/NAME", remedy="correct the name")
    copy_needed(place, kind, folder, needed)
    say(f"copied {place} to {folder}")


def copy_needed(place: Path, kind: Kind, folder: Path, needed: Needed | None = None) -> None:
    """Copy what is needed of a local folder (or a file); files of the same size and time are taken as copied."""
    if place.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _copy(place, folder / place.name)
        return
    names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    if kind == "dataset" and needed is not None:
        names = [*metadata_files(names), *needed(place, names)]
    elif kind == "tokenizer":
        names = choose_tokenizer(names)
    else:
        names = choose_model(names)
    for name in names:
        _copy(place / name, folder / name)


def _copy(source: Path, target: Path) -> None:
    if target.is_file():
        ours, theirs = target.stat(), source.stat()
        if (ours.st_size, int(ours.st_mtime)) == (theirs.st_size, int(theirs.st_mtime)):
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.copying")
    shutil.copy2(source, temporary)
    temporary.replace(target)


def _bring_tokenizer(given: str | None, base: Path, folder: Path, settings: FetchConfig, say: Say) -> None:
    """Bring the tokenizer as given, or the one that the base names and does not hold."""
    if given is not None:
        _bring(given, "tokenizer", folder, settings, say)
        return
    if lacks_tokenizer(base) is None:
        return
    receipt = read_receipt(base)
    name = find_tokenizer_name(base)
    if receipt is not None and PREPROCESSOR in receipt.rewritten:
        name = str(receipt.rewritten[PREPROCESSOR]["was"])
    name = name or PALIGEMMA
    local = Path(name) if lacks_tokenizer(Path(name)) is None else find_tokenizer(base, name)
    if local is not None and local.absolute() != folder.absolute():
        copy_needed(local, "tokenizer", folder)
        say(f"copied {local} to {folder}")
    elif parse_name(name, "tokenizer") is not None:
        _bring(name, "tokenizer", folder, settings, say)


def kept_flags(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command line without the flags that the script writes itself, values included."""
    rest, kept = list(arguments), []
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        path = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or path not in REPLACED:
            kept.append(word)
        elif not equals and path not in SWITCHES and rest and not rest[0].startswith("--"):
            rest.pop(0)
    return kept


def write_script(path: Path, flags: Sequence[str]) -> None:
    """Write the script that starts the run; further flags go through."""
    lines = " \\\n  ".join(shlex.quote(flag) for flag in flags)
    text = f"""#!/usr/bin/env bash
# The run that this bundle was made for; it opens no connection. Further flags go through.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
exec "${{PI05:-pi05}}" train \\
  {lines} "$@"
"""
    write_atomic(path, text.encode())
    path.chmod(0o755)


def _write_receipt(out: Path) -> None:
    """Note size and hash of every file; `pi05 fetch --verify OUT` compares them."""
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path != out / RECEIPT)
    known: dict[Path, str] = {}
    for folder in {path.parent for path in out.glob(f"*/{RECEIPT}")}:
        receipt = read_receipt(folder)
        if receipt is not None:
            fetched = {name: facts for name, facts in receipt.files.items() if name not in receipt.rewritten}
            known |= {folder / name: str(facts["sha256"]) for name, facts in fetched.items()}
    files = {
        path.relative_to(out).as_posix(): {"size": path.stat().st_size, "sha256": known.get(path) or hash_file(path)}
        for path in paths
    }
    Receipt(name="a bundle", kind="bundle", revision=None, commit="", endpoint="", fetched=now(), files=files).write(
        out
    )


def relocate(folder: Path, say: Say) -> list[str]:
    """Name tokenizers where they lie now, in a fetched folder or in the folders of a bundle; return what was changed.

    Raises HubError for a folder without any.
    """
    places = (
        [folder] if (folder / PREPROCESSOR).is_file() else [path.parent for path in folder.glob(f"*/{PREPROCESSOR}")]
    )
    if not places:
        raise HubError(
            f"{folder} holds no reference to a tokenizer",
            wanted=f"a folder with {PREPROCESSOR}, or a bundle",
            remedy="name a folder that pi05 fetch wrote",
        )
    changed = sorted({path for place in places for path in point_at_tokenizers(place, say)})
    receipt = read_receipt(folder)
    for path in changed:
        name = f"{path.name}/{PREPROCESSOR}"
        if receipt is not None and name in receipt.files:
            receipt.rewritten[name] = {"why": "tokenizer_name", "sha256": hash_file(path / PREPROCESSOR)}
            receipt.write(folder)
        own = read_receipt(path)
        if receipt is not None and own is not None and f"{path.name}/{RECEIPT}" in receipt.files:
            facts = {"why": "tokenizer_name", "sha256": hash_file(path / RECEIPT)}
            receipt.rewritten[f"{path.name}/{RECEIPT}"] = facts
            receipt.write(folder)
    return [f"{path / PREPROCESSOR}: rewritten" for path in changed]
