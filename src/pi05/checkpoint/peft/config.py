"""`adapter_config.json` of PEFT's LoRA: read strictly, and written with the fields that its versions share.

A setting that is understood is used, and one that cannot matter here is passed over. Any other must be off: an adapter
that PEFT reads otherwise (QALoRA, tokens trained alone, PiSSA's changed base, …) is refused by name. Fields and their
meaning: PEFT `tuners/lora/config.py`, 0.18 to 0.21 (what LeRobot 0.6 accepts).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pi05.checkpoint.file_names import ADAPTER_CONFIG
from pi05.checkpoint.peft.names import ALL_LINEAR, LerobotModules, Patterns, barred_by_full, in_layers, matches
from pi05.checkpoint.peft.patterns import danger
from pi05.errors import CheckpointError
from pi05.files import read_json
from pi05.model.lora import LoraSpec

Number = TypeVar("Number", int, float)

UNDERSTOOD = {
    "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_dropout",
    "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern", "bias",
    "init_lora_weights",
}  # fmt: skip
WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version",
    "megatron_core", "loftq_config", "eva_config", "qalora_group_size", "ensure_weight_tying", "runtime_config",
}  # fmt: skip
"""Settings that say where the adapter is from, or that only count together with one that is refused."""
HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""First values of A and B; the others (pissa, olora, corda, loftq, …) change the base's weights too."""
DEFAULT_RANK, DEFAULT_ALPHA = 8, 8
POLICY_CLASS = {"base_model_class": "PI05Policy", "parent_library": "lerobot.policies.pi05.modeling_pi05"}


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What `adapter_config.json` says of the adapters."""

    values: Mapping[str, Any]
    """The whole file."""
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    dora: bool
    dropout: float
    target_modules: Patterns
    exclude_modules: Patterns
    modules_to_save: tuple[str, ...]
    layers: int | Sequence[int]
    layers_pattern: Patterns

    def spec(self, name: str) -> LoraSpec:
        """Return the adapter of one module of LeRobot's."""
        return LoraSpec(
            rank=_of_pattern(self.rank_pattern, name, self.rank),
            alpha=_of_pattern(self.alpha_pattern, name, self.alpha),
            rslora=self.rslora,
            dora=self.dora,
            dropout=self.dropout,
        )

    def targets(self, modules: LerobotModules) -> list[str]:
        """Return LeRobot's names of the modules that PEFT gives an adapter."""
        return [name for name in modules.names if self._hits(name, modules) and not self._bars(name)]

    def _hits(self, name: str, modules: LerobotModules) -> bool:
        if isinstance(self.target_modules, str):
            return name in modules.linear if self.target_modules.lower() == ALL_LINEAR else self._matches(name)
        chosen = name in self.target_modules  # named in full, a module passes layers_to_transform
        return chosen or (self._matches(name) and in_layers(name, self.layers, self.layers_pattern))

    def _matches(self, name: str) -> bool:
        return matches(name, self.target_modules)

    def _bars(self, name: str) -> bool:
        excluded = bool(self.exclude_modules) and matches(name, self.exclude_modules)
        return excluded or barred_by_full(name, self.modules_to_save)


def _of_pattern(pattern: Mapping[str, Number], name: str, default: Number) -> Number:
    """Return the value whose pattern is the name or the end of it; the first one in the file counts."""
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", name)), default)


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read and check `adapter_config.json`. Raises CheckpointError for what is damaged or not supported."""
    path = folder / ADAPTER_CONFIG
    return parse_adapter_config(path, read_json(path))


def parse_adapter_config(path: Path, values: Mapping[str, Any]) -> AdapterConfig:
    """Check the content of an `adapter_config.json`; `path` is for the messages."""
    _refuse_unsupported(path, values)
    config = AdapterConfig(
        values=values,
        rank=_checked(path, values, "r", DEFAULT_RANK, _is_rank, "a whole number of at least 1"),
        alpha=_checked(path, values, "lora_alpha", DEFAULT_ALPHA, _is_number, "a number"),
        rank_pattern=_checked(path, values, "rank_pattern", {}, _each(_is_rank), "patterns with ranks"),
        alpha_pattern=_checked(path, values, "alpha_pattern", {}, _each(_is_number), "patterns with numbers"),
        rslora=_checked(path, values, "use_rslora", False, _is_bool, "true or false"),
        dora=_checked(path, values, "use_dora", False, _is_bool, "true or false"),
        dropout=_checked(path, values, "lora_dropout", 0.0, _is_share, "a number from 0 to below 1"),
        target_modules=_checked(path, values, "target_modules", "", _is_patterns, "a pattern or a list of names"),
        exclude_modules=_checked(path, values, "exclude_modules", (), _is_patterns, "a pattern or a list of names"),
        modules_to_save=tuple(_checked(path, values, "modules_to_save", (), _is_names, "a list of names")),
        layers=_checked(path, values, "layers_to_transform", (), _is_layers, "a layer or a list of layers"),
        layers_pattern=_checked(path, values, "layers_pattern", (), _is_patterns, "a name or a list of names"),
    )
    _compile_patterns(path, config)
    return config


def _refuse_unsupported(path: Path, values: Mapping[str, Any]) -> None:
    if values.get("peft_type") != "LORA":
        raise CheckpointError(
            "the adapter is of a kind that cannot be read",
            wanted='"peft_type": "LORA"',
            found=f"{values.get('peft_type')!r} in {path}",
            remedy="merge it into its base with the program that made it, and give the merged checkpoint",
        )
    unsupported = [
        f"{name}={value!r}"
        for name, value in values.items()
        if (name not in UNDERSTOOD | WITHOUT_EFFECT and value)
        or (name == "bias" and value not in ("none", None))
        or (name == "init_lora_weights" and value not in HARMLESS_STARTS)
    ]
    if unsupported:
        raise CheckpointError(
            "the adapter uses features that cannot be read",
            wanted="LoRA, rsLoRA or DoRA on linear maps, and modules_to_save",
            found=f"{', '.join(unsupported)} in {path}",
            remedy="merge it into its base with the program that made it, and give the merged checkpoint",
        )


def _checked(path: Path, values: Mapping[str, Any], name: str, default: Any, valid: Any, wanted: str) -> Any:
    value = values.get(name)
    if value is None:
        return default
    if not valid(value):
        raise CheckpointError(
            f"the adapter's {name} is damaged",
            wanted=wanted,
            found=f"{value!r} in {path}",
            remedy="restore the file, or make the adapter again",
        )
    return value


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_patterns(value: Any) -> bool:
    return isinstance(value, str) or _is_names(value)


def _is_layers(value: Any) -> bool:
    return all(isinstance(layer, int) for layer in (value if isinstance(value, list) else [value]))


def _each(valid: Any) -> Any:
    return lambda value: isinstance(value, dict) and all(valid(entry) for entry in value.values())


def _compile_patterns(path: Path, config: AdapterConfig) -> None:
    """Raise CheckpointError for a pattern that is no regular expression, or one that might never end."""
    patterns: list[str] = [*config.rank_pattern, *config.alpha_pattern, *config.modules_to_save]
    patterns += [entry for entry in (config.target_modules, config.exclude_modules) if isinstance(entry, str)]
    layers = [config.layers_pattern] if isinstance(config.layers_pattern, str) else list(config.layers_pattern or ())
    for pattern in [*patterns, *layers]:
        try:
            reason = danger(pattern)
            if reason is None and pattern in layers and re.compile(pattern).groups:
                reason = "groups in the name of a list of layers"
            if reason is not None:
                raise CheckpointError(
                    "the adapter's patterns cannot be run safely",
                    wanted="a regular expression with few repetitions, none inside another",
                    found=f"{pattern[:80]!a} in {path}: {reason}",
                    remedy="write it without: name the modules in a list",
                )
        except re.error as error:
            raise CheckpointError(
                "the adapter's patterns are damaged",
                wanted="regular expressions",
                found=f"{pattern!r} in {path}: {error}",
                remedy="restore the file, or make the adapter again",
            ) from error


def adapter_config_values(
    specs: Mapping[str, LoraSpec], *, base: str, modules_to_save: Sequence[str], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of `adapter_config.json` for adapters under LeRobot's names.

    `extra` replaces fields, such as `target_modules` by the pattern that chose the modules. Raises ValueError for a
    field that is not written here, and for adapters that differ in more than rank and alpha, which PEFT cannot say.
    """
    kinds = {(spec.rslora, spec.dora, spec.dropout) for spec in specs.values()}
    if len(kinds) != 1:
        raise ValueError(f"PEFT wants one choice of rsLoRA, DoRA and dropout for all adapters, found {sorted(kinds)}")
    ((rslora, dora, dropout),) = kinds
    rank = Counter(spec.rank for spec in specs.values()).most_common(1)[0][0]
    alpha = Counter(spec.alpha for spec in specs.values()).most_common(1)[0][0]
    values = {
        "auto_mapping": POLICY_CLASS,
        "alpha_pattern": {name: _plain(spec.alpha) for name, spec in specs.items() if spec.alpha != alpha},
        "base_model_name_or_path": base,
        "bias": "none",
        "exclude_modules": None,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": _plain(alpha),
        "lora_dropout": dropout,
        "modules_to_save": list(modules_to_save),
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {name: spec.rank for name, spec in specs.items() if spec.rank != rank},
        "revision": None,
        "target_modules": sorted(specs),
        "task_type": None,
        "use_dora": dora,
        "use_rslora": rslora,
    }
    unknown = sorted(set(extra) - set(values))
    if unknown:
        raise ValueError(f"adapter_config.json has no field {', '.join(unknown)}")
    return {**values, **extra}


def _plain(alpha: float) -> float:
    """Return a whole number as int, which is how PEFT writes it."""
    return int(alpha) if float(alpha).is_integer() else alpha
