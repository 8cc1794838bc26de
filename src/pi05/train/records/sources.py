"""Base, data set and tokenizer of a run: from names to folders, before anything is computed; and the record of it.

The order of places is that of `sources/resolve.py`. What comes back holds paths only, so that the run, its record and
its resumption mean the same files. A tokenizer that the base names is found before the base's weights are fetched: its
licence may not have been accepted yet. Torch-free.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pi05.checkpoint.lerobot.tokenizer_name import find_tokenizer_name
from pi05.data.wanted import needed_files
from pi05.files import expand_home
from pi05.sources.places import lacks_tokenizer
from pi05.sources.receipt import describe_source
from pi05.sources.resolve import is_name, resolve
from pi05.train.config import TrainConfig


def settle_sources(config: TrainConfig, *, here_only: bool = False) -> TrainConfig:
    """Return the configuration with folders where names of the hub stood.

    A path at which nothing is stays: its reader refuses it. `here_only`: nothing is fetched, and a name that is nowhere
    on this machine stays. Raises CheckpointError or DataError for a name that is not in reach.
    """
    dataset, policy = config.dataset, config.policy
    given = dataset.root if dataset.root is not None else dataset.repo_id
    if given is not None and not expand_home(given).exists():
        needed = needed_files(dataset.episodes, dataset.exclude_episodes or (), config.drop_cameras)
        found = resolve(given, "dataset", needed=needed, here_only=here_only)
        if dataset.root is not None or found.exists():
            dataset = replace(dataset, root=str(found) if found.exists() else dataset.root)
    tokenizer = policy.tokenizer_path
    if tokenizer is not None:
        tokenizer = _settled(tokenizer, resolve(tokenizer, "tokenizer", here_only=here_only))
    path, here_only = policy.path, here_only or config.resume
    if path is not None and not config.from_scratch:
        named: list[str] = []

        def look(folder: Path) -> None:
            if tokenizer is None and not config.resume:
                named.extend(_tokenizer_of(folder, here_only))

        base = resolve(path, "model", first=look, here_only=here_only)
        if base.is_dir() and not named:
            look(base)
        path, tokenizer = _settled(path, base), tokenizer or next(iter(named), None)
    return replace(config, dataset=dataset, policy=replace(policy, path=path, tokenizer_path=tokenizer))


def describe_sources(config: TrainConfig) -> dict[str, Any]:
    """Return where base, data set and tokenizer were fetched from: commits and hashes, as far as the folders tell."""
    given = {"base": config.policy.path, "dataset": config.dataset.root, "tokenizer": config.policy.tokenizer_path}
    return {what: describe_source(path) for what, path in given.items() if path is not None}


def _settled(given: str, found: Path) -> str:
    """Return the text of a configuration for what was found; as it was given where that is a path itself."""
    return str(found) if found.exists() and not expand_home(given).exists() else given


def _tokenizer_of(folder: Path, here_only: bool) -> list[str]:
    """Return the folder of the tokenizer that a base names on the hub; nothing where it holds one, or names none."""
    name = find_tokenizer_name(folder)
    if name is None or lacks_tokenizer(folder) is None or not is_name(name, "tokenizer"):
        return []
    if (folder / name).exists():
        return []
    found = resolve(name, "tokenizer", here_only=here_only)
    return [str(found)] if found.exists() else []
