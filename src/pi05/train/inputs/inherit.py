"""What a run takes over from its base checkpoint besides the weights: prompt format, resize, formula, statistics.

A base knows how its pictures were resized and how its state was written into the prompt; training goes on that way
unless told otherwise, and says so. Statistics are taken over with `--stats checkpoint` only. Bases that tell nothing
(weights alone, openpi's folders) get the defaults. Knows no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi05.checkpoint.lerobot.read import base_prompt_format, stored_tokenizer_name
from pi05.checkpoint.locate import Location
from pi05.checkpoint.openpi.read import read_statistics
from pi05.checkpoint.policy_folder import read_processor
from pi05.checkpoint.policy_options import PolicyOptions, as_prompt_format, find_tokenizer
from pi05.checkpoint.store import read_checkpoint_config
from pi05.data.prompt import PromptFormat
from pi05.data.resize import LEROBOT_RESIZE, OPENPI_RESIZE, Resize
from pi05.data.statistics import DimStats
from pi05.data.tokenizer import FILE_NAMES, Tokenizer
from pi05.data.transforms import Formula
from pi05.data.vocabulary import difference_from_paligemma, first_difference
from pi05.errors import CheckpointError, ConfigError
from pi05.model.config import ModelConfig
from pi05.sources.names import PALIGEMMA
from pi05.train.config import ALLOW_TOKENIZER, TINY_BASE, TrainConfig

RESIZE_OF: dict[str, Resize] = {"openpi": OPENPI_RESIZE, "lerobot": LEROBOT_RESIZE}


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """How a run preprocesses, as its base and its settings have it."""

    prompt_format: PromptFormat = "state"
    resize: Resize = OPENPI_RESIZE
    formula: Formula = "openpi"
    notes: list[str] = field(default_factory=list)
    """What is not the default, and why."""


def inherit(config: TrainConfig, base: Location | None) -> Inherited:
    """Decide how the run preprocesses: as the user says, else as the base was trained."""
    found = _of_base(config, base)
    notes = list(found.notes)
    prompt_format, resize = found.prompt_format, found.resize
    if config.prompt_format is not None:
        if config.prompt_format != prompt_format and base is not None:
            notes.append(f"prompt: format {config.prompt_format} as asked; the base has {prompt_format}")
        prompt_format = config.prompt_format
    if config.resize != "auto":
        if RESIZE_OF[config.resize] != resize and base is not None:
            notes.append(f"resize: {config.resize}'s as asked; the base was trained with the other")
        resize = RESIZE_OF[config.resize]
    return Inherited(prompt_format=prompt_format, resize=resize, formula=found.formula, notes=notes)


def _of_base(config: TrainConfig, location: Location | None) -> Inherited:
    if location is None:
        return Inherited()
    folder = location.folder
    if location.kind == "pi05":
        stored = read_checkpoint_config(folder).get("processor")
        return _of_run(stored) if isinstance(stored, dict) else Inherited()
    if location.kind == "lerobot":
        prompt_format, note = base_prompt_format(folder)
        notes = ["resize and normalisation: LeRobot's, as in the base (--resize)"]
        if prompt_format != "state":
            notes.append(f"prompt: format {prompt_format}, {note} (--prompt_format)")
        return Inherited(prompt_format=prompt_format, resize=LEROBOT_RESIZE, formula="lerobot", notes=notes)
    if location.kind in ("openpi", "jax") and config.prompt_format is None:
        note = "prompt: format state; openpi's folders do not tell, and pi05_libero has none (--prompt_format)"
        return Inherited(notes=[note])
    return Inherited()


def _of_run(stored: Mapping[str, Any]) -> Inherited:
    """Return what one of pi05's own checkpoints says."""
    found = Inherited(
        prompt_format=as_prompt_format(stored["prompt_format"], "the base checkpoint"),
        resize=stored["resize"],
        formula=stored.get("formula", "openpi"),
    )
    if found == Inherited():
        return found
    told = f"prompt format {found.prompt_format}, resize {found.resize}, {found.formula}'s normalisation"
    return Inherited(**{**vars(found), "notes": [f"as the base was trained: {told}"]})


def base_statistics(
    config: TrainConfig,
    sizes: ModelConfig,
    location: Location | None,
    modes: Mapping[str, str],
    mask: tuple[bool, ...] | None,
) -> tuple[DimStats, DimStats]:
    """Return the statistics of state and actions in the located base, for `--stats checkpoint`.

    Raises CheckpointError when it holds none. Raises ConfigError when the run would use them for something else than
    the base does: another mode, or other actions relative to the state. openpi's folders do not tell what is relative.
    """
    if location is None:
        raise _no_statistics("no base")
    modes = {kind: modes[kind] for kind in ("STATE", "ACTION")}
    if location.kind in ("openpi", "jax"):
        quantiles = dict.fromkeys(modes, "QUANTILES")
        _require(quantiles, modes, "normalisation", "--policy.normalization_mapping")
        return read_statistics(location.folder, config.asset_id)
    if location.kind == "pi05":
        state, action, trained = _own_statistics(location.folder)
    elif location.kind == "lerobot":
        options = PolicyOptions(tokenizer_path=config.policy.tokenizer_path)
        processor = read_processor(location, sizes, options).processor
        state, action = processor.state_stats, processor.action_stats
        trained = {"normalization": processor.normalization, "relative_mask": processor.relative_mask}
    else:
        raise _no_statistics(location.given)
    _require(dict(trained["normalization"]), modes, "normalisation", "--policy.normalization_mapping")
    of_base = trained["relative_mask"]
    _require(None if of_base is None else tuple(of_base), mask, "relative actions", "--policy.use_relative_actions")
    return state, action


def _own_statistics(folder: Path) -> tuple[DimStats, DimStats, dict[str, Any]]:
    stored = read_checkpoint_config(folder).get("processor")
    if not isinstance(stored, dict):
        raise _no_statistics(folder)
    return DimStats.from_dict(stored["state_stats"]), DimStats.from_dict(stored["action_stats"]), stored


def _no_statistics(path: str | Path) -> CheckpointError:
    return CheckpointError(
        "the base checkpoint holds no statistics",
        wanted="a folder of pi05, LeRobot or openpi with statistics, for --stats checkpoint",
        found=str(path),
        remedy="use --stats recompute",
    )


def _require(of_base: object, of_run: object, what: str, flag: str) -> None:
    """Raise ConfigError when the base's statistics are those of something else."""
    if of_base != of_run:
        raise ConfigError(
            f"--stats checkpoint: the base's {what} is not the run's, so its statistics do not fit",
            wanted=str(of_base),
            found=str(of_run),
            remedy=f"set {flag} as the base has it, or use --stats recompute",
        )


def open_tokenizer(config: TrainConfig, sizes: ModelConfig, base: Location | None) -> Tokenizer:
    """Load the tokenizer: as given, that of the base, or, from scratch, that of the packaged base.

    Raises ConfigError for a given one that numbers text in another way than that of the base.
    """
    if config.policy.tokenizer_path is not None:
        given = Tokenizer.load(config.policy.tokenizer_path)
        if base is not None and ALLOW_TOKENIZER not in config.allow:
            _require_ids_of_base(given, base, sizes)
        return given
    if base is not None:
        return _tokenizer_of(base, sizes)
    if config.network == "tiny":
        return Tokenizer.load(TINY_BASE)
    raise ConfigError(
        "training from scratch needs a tokenizer",
        wanted="--policy.tokenizer_path=FILE, a tokenizer.json or SentencePiece .model",
        remedy="give PaliGemma's tokenizer, or one that was made for this vocabulary",
    )


def _require_ids_of_base(given: Tokenizer, base: Location, sizes: ModelConfig) -> None:
    if any((base.folder / name).is_file() for name in FILE_NAMES):
        difference = first_difference(Tokenizer.load(base.folder), given)
    elif sizes.vocab_size == ModelConfig().vocab_size:
        difference = difference_from_paligemma(given)
    else:
        return
    if difference is not None:
        raise ConfigError(
            "the tokenizer is not the one that the base was trained with: to it these numbers mean other words",
            wanted=f"{difference.wanted[:12]} … for {difference.text[:40]!r} …",
            found=f"{difference.found[:12]} … with {given.path}",
            remedy=f"leave --policy.tokenizer_path out, or --allow={ALLOW_TOKENIZER} to teach it new numbers",
        )


def _tokenizer_of(location: Location, sizes: ModelConfig) -> Tokenizer:
    folder = location.folder
    if location.kind == "pi05":
        return Tokenizer.load(folder)
    name = stored_tokenizer_name(folder) if location.kind == "lerobot" else None
    if name is None and sizes.vocab_size == ModelConfig().vocab_size:
        name = PALIGEMMA  # openpi's folders hold none, and have no other
    return find_tokenizer(folder, name, None, sizes)


def require_vocabulary(tokenizer: Tokenizer, sizes: ModelConfig) -> None:
    """Raise ConfigError when the tokenizer has ids that the network has no embedding for."""
    if tokenizer.vocab_size > sizes.vocab_size:
        raise ConfigError(
            "the tokenizer does not belong to this network",
            wanted=f"at most {sizes.vocab_size:,} ids, the rows of the token embedding",
            found=f"{tokenizer.vocab_size:,} in {tokenizer.path}",
            remedy="give the tokenizer of the base checkpoint with --policy.tokenizer_path",
        )
