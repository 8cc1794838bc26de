"""Which of our modules an adapter's patterns hit: LeRobot's module names, and PEFT's matching rules on them.

Patterns are written for LeRobot's names ("model.paligemma_with_expert.gemma_expert.model.layers.0.self_attn.q_proj").
A string is a regular expression for the whole name. Each entry of a list is a name or the end of one, whole words
between dots. "all-linear" means every linear map that π₀.₅ uses (PEFT `tuners_utils.py: check_target_module_exists`).
Modules of LeRobot that cannot have an adapter here take part in the matching, so that a pattern that hits one is
refused as PEFT refuses it, and not read otherwise than PEFT reads it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pi05.checkpoint.lerobot.names import PREFIX, lerobot_layout
from pi05.checkpoint.openpi.names import (
    EMBEDDING,
    EXPERT,
    EXPERT_HEAD,
    LANGUAGE_HEAD,
    PALIGEMMA,
    PATCHES,
    TOWER,
    UNUSED,
)
from pi05.checkpoint.tensor_map import TensorLayout
from pi05.errors import ConfigError
from pi05.model.config import ModelConfig
from pi05.model.layers import Linear
from pi05.model.pi05 import Pi05

Patterns = str | Sequence[str]

ALL_LINEAR = "all-linear"
HEADS = tuple((PREFIX + head).removesuffix(".weight") for head in (LANGUAGE_HEAD, EXPERT_HEAD))
REASONS = {
    (PREFIX + PATCHES).removesuffix(".weight"): "the patch embedding, a convolution in LeRobot",
    (PREFIX + EMBEDDING).removesuffix(".weight"): "the token embedding, no linear map",
    f"{PREFIX}{TOWER}embeddings.position_embedding": "the position embedding, no linear map",
    **dict.fromkeys(HEADS, f"a language head, {UNUSED}"),
}
OTHER_REASON = "no linear map"
NAMES_SHOWN = 4


@dataclass(frozen=True)
class LerobotModules:
    """The module tree that PEFT sees in LeRobot's π₀.₅ of some sizes."""

    layout: TensorLayout
    linear: Mapping[str, str]
    """LeRobot's module name → ours, for every linear map that π₀.₅ uses, in our model's order."""
    others: tuple[str, ...]
    """LeRobot's other modules: containers, norms, embeddings, activations, the unused heads."""

    @property
    def names(self) -> list[str]:
        """Return all names."""
        return [*self.linear, *self.others]

    def tensors_in(self, modules: Collection[str]) -> dict[str, str]:
        """Return LeRobot's name → our parameter name for every tensor inside these modules of LeRobot."""
        inside = tuple(f"{module}." for module in modules)
        return {
            foreign: targets[0].name
            for foreign, targets in self.layout.targets.items()
            if inside and foreign.startswith(inside)
        }


def lerobot_modules(model: Pi05) -> LerobotModules:
    """Return the modules of LeRobot's π₀.₅ of the same sizes."""
    config = model.config
    layout = lerobot_layout(config.depth, config.vision_depth)
    foreign = {targets[0].name: name for name, targets in layout.targets.items()}
    linear = {
        foreign[f"{name}.weight"].removesuffix(".weight"): name
        for name, module in model.named_modules()
        if isinstance(module, Linear) and name != "vision.patch_embedding"
    }
    others = [name for name in _parents([*layout.targets, *layout.dead]) if name not in linear]
    return LerobotModules(layout, linear, (*others, *_without_tensors(config)))


def _parents(tensors: Iterable[str]) -> list[str]:
    """Return every module that holds one of the tensors, directly or further down."""
    found: dict[str, None] = {}
    for tensor in tensors:
        parts = tensor.split(".")
        found.update((".".join(parts[:end]), None) for end in range(1, len(parts)))
    return list(found)


def _without_tensors(config: ModelConfig) -> Iterable[str]:
    """Yield LeRobot's modules without tensors: activations and rotary embeddings."""
    for block in range(config.vision_depth):
        yield f"{PREFIX}{TOWER}encoder.layers.{block}.mlp.activation_fn"
    for tower in (f"{PREFIX}{PALIGEMMA}language_model.", PREFIX + EXPERT):
        yield tower + "rotary_emb"
        for layer in range(config.depth):
            yield f"{tower}layers.{layer}.mlp.act_fn"


def matches(name: str, patterns: Patterns) -> bool:
    """Say whether PEFT's rule finds `name` in `patterns`; "all-linear" is not known here."""
    if isinstance(patterns, str):
        return re.fullmatch(patterns, name) is not None
    return any(name == entry or name.endswith(f".{entry}") for entry in patterns)


def saved_in_full(name: str, modules_to_save: Sequence[str]) -> bool:
    """Say whether PEFT trains module `name` in full: any ending counts, whole words or not."""
    return any(name.endswith(entry) for entry in modules_to_save)


def barred_by_full(name: str, modules_to_save: Sequence[str]) -> bool:
    """Say whether PEFT keeps adapters away from `name` because it, or a module around it, is trained in full."""
    return any(re.match(rf"(^|.*\.){entry}($|\..*)", name) for entry in modules_to_save)


def in_layers(name: str, layers: Sequence[int] | int | None, pattern: Patterns | None) -> bool:
    """Say whether `layers_to_transform` and `layers_pattern` let `name` pass: the first number in it counts."""
    wanted = [layers] if isinstance(layers, int) else list(layers or ())
    if not wanted:
        return True
    names = [pattern] if isinstance(pattern, str) else list(pattern or ())
    starts = [rf"(?:^|.*?\.){name}" for name in names if name] or [r".*?\.[^.]*"]
    found = next((match for start in starts if (match := re.match(rf"{start}\.(\d+)\.", name))), None)
    return found is not None and int(found.group(1)) in wanted


def resolve_targets(
    model: Pi05,
    target_modules: Patterns,
    exclude: Patterns | None = None,
    *,
    modules_to_save: Sequence[str] = (),
) -> dict[str, str]:
    """Return our module name → LeRobot's module name for what the patterns hit, in our model's order.

    Modules that are trained in full (`modules_to_save`, see `resolve_full`) get no adapter. Raises ConfigError for a
    pattern, or an entry of a list, that hits nothing, and for one that hits a module that cannot have an adapter.
    """
    modules = lerobot_modules(model)
    if isinstance(target_modules, str) and target_modules.lower() == ALL_LINEAR:
        hit = list(modules.linear)
    else:
        _require_hits("--peft.target_modules", target_modules, modules.names)
        hit = [name for name in modules.names if matches(name, target_modules)]
    if exclude:
        _require_hits("exclude_modules", exclude, modules.names)
        hit = [name for name in hit if not matches(name, exclude)]
    hit = [name for name in hit if not (barred_by_full(name, modules_to_save) or saved_in_full(name, modules_to_save))]
    wrong = [name for name in hit if name not in modules.linear]
    if wrong:
        raise ConfigError(
            "a pattern for adapters hits modules that cannot have one",
            wanted="linear maps, such as q_proj or model.action_in_proj",
            found=f"{_shown(target_modules)} hits {_list(f'{name} ({reason_against(name)})' for name in wrong)}",
            remedy="narrow it; a string is a regular expression for the whole name, [a,b] is a list of endings",
        )
    if not hit:
        raise ConfigError(
            "no module is left for an adapter",
            wanted=f"modules that {_shown(target_modules)} hits",
            found="all of them are excluded or trained in full",
            remedy="exclude less, or train less in full",
        )
    return {modules.linear[name]: name for name in hit}


def resolve_full(model: Pi05, modules_to_save: Sequence[str]) -> dict[str, str]:
    """Return our parameter name → LeRobot's tensor name for the modules that are trained in full.

    An entry hits every module whose name ends with it. Raises ConfigError for an entry that hits no parameter.
    """
    modules = lerobot_modules(model)
    found: dict[str, str] = {}
    for entry in modules_to_save:
        hit = modules.tensors_in([name for name in modules.names if name.endswith(entry)])
        if not hit:
            raise _no_hit("--peft.full_training_modules", entry, modules.names, False)
        found.update((ours, foreign) for foreign, ours in hit.items())
    return found


def lerobot_module_of(tensor: str) -> str:
    """Return the module that holds a tensor of LeRobot's."""
    return tensor.rpartition(".")[0]


def _require_hits(setting: str, patterns: Patterns, names: Sequence[str]) -> None:
    """Raise ConfigError when a regular expression or an entry of a list hits nothing, or is none."""
    whole = isinstance(patterns, str)
    for entry in [patterns] if isinstance(patterns, str) else patterns or [""]:
        try:
            if any(matches(name, entry if whole else [entry]) for name in names):
                continue
        except re.error as error:
            raise ConfigError(
                f"{setting} is no regular expression",
                wanted="a regular expression for the whole module name, or a list of endings such as [q_proj,v_proj]",
                found=f"{_shown(patterns)}: {error}",
                remedy="correct it, or give a list",
            ) from error
        raise _no_hit(setting, entry, names, whole)


def _no_hit(setting: str, entry: str, names: Sequence[str], whole: bool) -> ConfigError:
    if whole and any(name.endswith(f".{entry}") for name in names):
        remedy = f"a string is a regular expression for the whole name; give a list of endings: [{entry}]"
    else:
        endings = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()})
        close = get_close_matches(entry.rpartition(".")[2], endings, n=NAMES_SHOWN, cutoff=0.5)
        close += [name for name in get_close_matches(entry, names, n=NAMES_SHOWN, cutoff=0.8) if name not in close]
        remedy = (
            f"did you mean {', '.join(close)}?" if close else "see the names: q_proj, v_proj, gate_proj, time_mlp_in"
        )
    return ConfigError(
        f"{setting} names modules that the network does not have",
        wanted="LeRobot's module names, such as q_proj or model.action_in_proj",
        found=f"{entry!r} hits none of {len(names)} modules",
        remedy=remedy,
    )


def reason_against(name: str) -> str:
    """Say why a module of LeRobot's cannot have an adapter here."""
    return REASONS.get(name, OTHER_REASON)


def _shown(patterns: Patterns) -> str:
    return repr(patterns) if isinstance(patterns, str) else f"[{','.join(patterns)}]"


def _list(names: Iterable[str]) -> str:
    whole = list(names)
    more = f" and {len(whole) - NAMES_SHOWN} more" if len(whole) > NAMES_SHOWN else ""
    return ", ".join(whole[:NAMES_SHOWN]) + more
