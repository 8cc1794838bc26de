"""What `check` looks at, put together from a run's settings: for `pi05 check`, and before `pi05 train` trains.

The checks see no settings of a run; here the values are taken from them. A data set that cannot be opened as it is, is
opened without what is broken (`check/opening.py`), for the report only: training refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from pi05.check.config import ALLOWANCE_OF
from pi05.check.opening import Opened, finding_of, open_despite_faults
from pi05.check.subject import Base, Recipe, Subject
from pi05.checkpoint.locate import Location
from pi05.checkpoint.openpi.read import read_statistics
from pi05.checkpoint.own.fingerprint import edited_fields
from pi05.checkpoint.policy_folder import read_processor
from pi05.checkpoint.policy_options import PolicyOptions, find_tokenizer
from pi05.checkpoint.store import read_checkpoint_config, read_noted_data
from pi05.data.lerobot.reader import Dataset
from pi05.data.statistics import DimStats
from pi05.data.tokenizer import Tokenizer
from pi05.errors import CheckpointError, DataError
from pi05.finding import Finding, note
from pi05.model.config import ModelConfig
from pi05.sources.names import PALIGEMMA
from pi05.sources.resolve import resolve
from pi05.train.config import TINY_BASE, TrainConfig
from pi05.train.data import PreparedData, prepare_data
from pi05.train.inputs.dataset import open_dataset
from pi05.train.network import choose_sizes, locate_start
from pi05.train.resume import OpenRun


def subject_of(
    config: TrainConfig, sizes: ModelConfig, prepared: PreparedData, base: Base | None, *, tokenizer_known: bool = True
) -> Subject:
    """Return what is checked of a run whose data are prepared."""
    return Subject(
        dataset=prepared.dataset,
        episodes=sorted([*prepared.train_episodes, *prepared.held_out]),
        recipe=Recipe(
            processor=prepared.processor,
            statistics=prepared.statistics,
            train_episodes=prepared.train_episodes,
            held_out=prepared.held_out,
            n_action_steps=config.policy.steps_to_execute(sizes.horizon, prepared.dataset.fps),
            tokenizer_known=tokenizer_known,
            statistics_of_base=config.stats == "checkpoint",
        ),
        base=base,
    )


def base_of(config: TrainConfig, sizes: ModelConfig, location: Location | None) -> Base | None:
    """Return what a base tells of itself; of its statistics and settings as much as its folder holds."""
    if location is None:
        return None
    path = str(location.given)
    if location.kind == "pi05":
        stored = read_checkpoint_config(location.folder)
        processor = stored.get("processor")
        if not isinstance(processor, dict):
            return Base(path=path)
        state, action = (DimStats.from_dict(processor[f"{kind}_stats"]) for kind in ("state", "action"))
        settings = {**processor, "pi05_version": stored.get("pi05_version"), "statistics": stored.get("statistics")}
        return Base(
            path=path,
            state_stats=state,
            action_stats=action,
            settings=_without_statistics(settings),
            edited=edited_fields(stored) or (),
            trained_on=read_noted_data(location.folder),
        )
    try:
        if location.kind == "lerobot":
            options = PolicyOptions(tokenizer_path=config.policy.tokenizer_path)
            own = read_processor(location, sizes, options).processor
            settings = _without_statistics(own.to_dict())
            return Base(path=path, state_stats=own.state_stats, action_stats=own.action_stats, settings=settings)
        if location.kind in ("openpi", "jax"):
            state, action = read_statistics(location.folder, config.asset_id)
            return Base(path=path, state_stats=state, action_stats=action)
    except (CheckpointError, DataError):  # most bases hold weights alone; --stats=checkpoint refuses these by itself
        return Base(path=path)
    return Base(path=path)


def _without_statistics(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in ("state_stats", "action_stats")}


def open_subject(config: TrainConfig, console: Console) -> tuple[Subject | None, list[Finding]]:
    """Open what `pi05 check` looks at, despite faults; return it with the findings on what could not be read.

    Without a base the data set and its recipe are all there is. Raises ConfigError for settings that cannot be, and
    CheckpointError for a base that is not there.
    """
    everything = tuple(dict.fromkeys((*config.allow, *ALLOWANCE_OF.values())))
    wider = replace(config, allow=everything)

    def open_without(episodes: Sequence[int], cameras: Sequence[str]) -> Dataset:
        return open_dataset(leave_out(wider, episodes, cameras))

    opened = open_despite_faults(open_without)
    if opened.dataset is None:
        return None, opened.findings
    wider = leave_out(wider, opened.episodes, opened.cameras)
    return _prepared_subject(wider, opened, opened.dataset, console)


def leave_out(config: TrainConfig, episodes: Sequence[int], cameras: Sequence[str]) -> TrainConfig:
    """Return the settings of the same run without some episodes and cameras."""
    excluded = sorted({*(config.dataset.exclude_episodes or ()), *episodes})
    dataset = replace(config.dataset, exclude_episodes=tuple(excluded) or None)
    return replace(config, dataset=dataset, drop_cameras=(*config.drop_cameras, *cameras))


def _prepared_subject(
    config: TrainConfig, opened: Opened, dataset: Dataset, console: Console
) -> tuple[Subject | None, list[Finding]]:
    """Put recipe and base beside an opened data set; a recipe that does not fit it is a finding."""
    findings = list(opened.findings)
    chosen = set(range(dataset.num_episodes) if config.dataset.episodes is None else config.dataset.episodes)
    episodes = sorted(chosen - set(config.dataset.exclude_episodes or ()))
    if not episodes:
        return None, findings
    location = None if config.policy.path is None or config.from_scratch else locate_start(config)
    sizes = choose_sizes(config, location)
    alone = location is None and not config.from_scratch
    tokenizer, known = _tokenizer_without_base(config, sizes) if alone else (None, True)
    run = OpenRun(root=config.run_dir, base=location)
    base = base_of(config, sizes, location)
    try:
        prepared = prepare_data(config, sizes, console, run, dataset, tokenizer)
    except (DataError, CheckpointError) as fault:
        findings.append(finding_of(fault, "recipe"))
        return Subject(dataset=dataset, episodes=episodes, base=base), findings
    if not known:
        findings.append(_tokenizer_note())
    return subject_of(config, sizes, prepared, base, tokenizer_known=known), findings


def _tokenizer_without_base(config: TrainConfig, sizes: ModelConfig) -> tuple[Tokenizer, bool]:
    """Return the tokenizer that a run with any base of full size would use, where it is on this machine.

    Else the packaged one, with which tokens may not be counted.
    """
    if config.policy.tokenizer_path is not None or config.network == "tiny":
        return Tokenizer.load(config.policy.tokenizer_path or TINY_BASE), True
    here = resolve(PALIGEMMA, "tokenizer", here_only=True)
    if here.exists():
        return find_tokenizer(here, None, None, sizes), True
    return Tokenizer.load(TINY_BASE), False


def _tokenizer_note() -> Finding:
    return note(
        "recipe.tokenizer",
        "no base and no tokenizer was given, and PaliGemma's is not on this machine: prompts are not counted in tokens",
        remedy="pi05 fetch tokenizer, or give --policy.path",
    )
