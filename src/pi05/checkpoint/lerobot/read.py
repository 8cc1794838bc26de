"""A LeRobot folder's processors, statistics and cameras as one of our processors, so that the folder is a policy.

The two processor files are the truth, `config.json` says the rest: cameras and their order, action dimensions, actions
to execute. LeRobot passes over what is missing (no statistics: values go through unchanged); here it is an error.

A policy that LeRobot trained from another one (`--policy.path=lerobot/pi05_base`) keeps that one's cameras and state
shape in its config.json, whatever the data had. What training saw shows in the statistics, which go by the data set's
names, before `rename_map`.

What no file tells is the version of LeRobot, and two things depend on it: up to 0.4.4 the prompt held the state padded
to 32 numbers, and pictures were padded with -3 instead of -1. `use_relative_actions` in config.json came with 0.5.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pi05.checkpoint.file_fields import read_fields
from pi05.checkpoint.file_names import CONFIG
from pi05.checkpoint.lerobot.fields import LerobotConfig
from pi05.checkpoint.lerobot.normalization import (
    dim_stats,
    note_zero_ranges,
    odd,
    read_modes,
    require_agreement,
    require_statistics,
)
from pi05.checkpoint.lerobot.steps import (
    ABSOLUTE,
    NORMALIZE,
    POSTPROCESSOR,
    PREPROCESSOR,
    PROMPT,
    RELATIVE,
    RENAME,
    TOKENIZE,
    UNNORMALIZE,
    Step,
    read_steps,
)
from pi05.checkpoint.plausible import require_plausible
from pi05.checkpoint.policy_options import (
    PolicyOptions,
    ProcessorSource,
    as_prompt_format,
    find_tokenizer,
    rename_cameras,
)
from pi05.checkpoint.sidecar import SIDECAR, read_columns, read_sidecar
from pi05.data.cameras import SLOTS, CameraSlots
from pi05.data.processor import Processor
from pi05.data.prompt import PromptFormat
from pi05.data.resize import LEROBOT_RESIZE, OLD_LEROBOT_RESIZE
from pi05.data.statistics import DimStats
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.types import ACTION, IMAGE_PREFIX, STATE

EMPTY_CAMERA = IMAGE_PREFIX + "empty_camera_"
UNREADABLE_SWITCHES = ("use_visual_memory", "use_proprioceptive_memory")
"""Settings of LeRobot 0.6.2-dev that change the network or the prompt."""


def read_lerobot(folder: Path, sizes: ModelConfig, options: PolicyOptions) -> ProcessorSource:
    """Return the processor of a LeRobot folder for a network of these sizes. Raises CheckpointError."""
    config = read_fields(folder / CONFIG, LerobotConfig)
    sidecar = read_sidecar(folder) or {}
    _require_plain(config, sizes, folder)
    before = read_steps(folder, PREPROCESSOR, (NORMALIZE, PROMPT, TOKENIZE))
    after = read_steps(folder, POSTPROCESSOR, (UNNORMALIZE,))
    notes: list[str] = []
    require_statistics(before[NORMALIZE], folder)
    modes = read_modes(before[NORMALIZE], after[UNNORMALIZE], config, notes)
    state = _state_stats(before[NORMALIZE], modes["STATE"], config, notes)
    action_dim = _dimension(config, "output_features", ACTION)
    action = dim_stats(after[UNNORMALIZE].statistics, ACTION, modes["ACTION"], action_dim)
    require_plausible(state, STATE, folder / PREPROCESSOR)
    require_plausible(action, ACTION, folder / POSTPROCESSOR)
    require_agreement(before[NORMALIZE].statistics, action, modes["ACTION"])
    note_zero_ranges(state, action, modes, notes)
    names = _action_names(config, before.get(RELATIVE), action.dim)
    prompt_format = _prompt_format(config, before, sidecar, options, notes)
    told_old = "prompt_format" not in sidecar and prompt_format == "state32"
    tokenizer_settings = before[TOKENIZE].settings
    name = tokenizer_settings.get("tokenizer_name")
    fps = sidecar.get("fps")
    if fps is None:
        notes.append("control rate: the folder does not tell it")
    state_columns, action_columns = read_columns(sidecar, folder, state.dim, action.dim)
    processor = Processor(
        slots=_cameras(config, before, sidecar, options, notes),
        state_stats=state,
        action_stats=action,
        tokenizer=find_tokenizer(folder, name, options.tokenizer_path, sizes),
        image_size=sizes.image_size,
        action_dim=sizes.action_dim,
        horizon=sizes.horizon,
        max_prompt_tokens=_prompt_length(tokenizer_settings, config, sizes, notes),
        fps=None if fps is None else float(fps),
        action_names=names,
        state_names=_if_of_length(sidecar.get("state_names"), state.dim),
        state_columns=state_columns,
        action_columns=action_columns,
        prompt_format=prompt_format,
        normalization=modes,
        relative_mask=_relative_mask(before.get(RELATIVE), after.get(ABSOLUTE), config, state.dim, action.dim, notes),
        resize=OLD_LEROBOT_RESIZE if told_old else LEROBOT_RESIZE,
        formula="lerobot",
    )
    executed = config.get("n_action_steps", sidecar.get("n_action_steps"))
    return ProcessorSource(
        processor=processor,
        n_action_steps=None if executed is None else min(int(executed), sizes.horizon),
        max_delay=_max_delay(config, sidecar),
        notes=notes,
    )


def _max_delay(config: Mapping[str, Any], sidecar: Mapping[str, Any]) -> int:
    """Return what committed actions are fewer than. LeRobot, from 0.6.2 on, writes the most that it has drawn."""
    most = config.get("rtc_training_max_delay") or 0
    return most + 1 if most else sidecar.get("rtc_max_delay") or 0


def _require_plain(config: Mapping[str, Any], sizes: ModelConfig, folder: Path) -> None:
    """Refuse what LeRobot can be told to do and this program cannot."""
    on = [name for name in UNREADABLE_SWITCHES if config.get(name)]
    if on:
        raise CheckpointError(
            "this policy has LeRobot's memory, which pi05 does not",
            wanted=f"{', '.join(on)}: false",
            found=f"true in {folder / 'config.json'}",
            remedy="use LeRobot for this policy",
        )
    resolution = list(config.get("image_resolution") or [sizes.image_size] * 2)
    if resolution != [sizes.image_size] * 2:
        raise CheckpointError(
            "config.json and the weights disagree on the size of pictures",
            wanted=f"image_resolution [{sizes.image_size}, {sizes.image_size}], as the weights have it",
            found=str(resolution),
            remedy="correct config.json, or copy the checkpoint again",
        )


def _dimension(config: Mapping[str, Any], group: str, feature: str) -> int:
    shape = ((config.get(group) or {}).get(feature) or {}).get("shape")
    if not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int):
        raise odd(f"{feature} in config.json's {group}", "a shape with one number", repr(shape))
    return shape[0]


def _state_stats(normalizer: Step, mode: str, config: Mapping[str, Any], notes: list[str]) -> DimStats:
    """Return the statistics of the state; they tell how many numbers it has, as the prompt is made from them."""
    state = dim_stats(normalizer.statistics, STATE, mode, None)
    told = _dimension(config, "input_features", STATE)
    if told != state.dim:
        notes.append(
            f"state: {state.dim} numbers, as the statistics and LeRobot's prompt have it; config.json says {told}, as "
            "its base did"
        )
    return state


def base_prompt_format(folder: Path) -> tuple[PromptFormat, str]:
    """Return the prompt format of a folder to train from, and how it is known.

    Without statistics nobody has fine-tuned it: the published pi05_base, which openpi trained with the unpadded state.
    """
    sidecar = read_sidecar(folder) or {}
    if "prompt_format" in sidecar:
        return as_prompt_format(sidecar["prompt_format"], SIDECAR), f"as {SIDECAR} says"
    steps = read_steps(folder, PREPROCESSOR, ()) if (folder / PREPROCESSOR).is_file() else {}
    if NORMALIZE not in steps or not steps[NORMALIZE].statistics:
        return "state", "as the base networks were trained"
    return format_by_version(read_fields(folder / CONFIG, LerobotConfig), steps)


def stored_tokenizer_name(folder: Path) -> str | None:
    """Return what the folder calls its tokenizer: a path, or a name on the hub."""
    steps = read_steps(folder, PREPROCESSOR, ()) if (folder / PREPROCESSOR).is_file() else {}
    name = steps[TOKENIZE].settings.get("tokenizer_name") if TOKENIZE in steps else None
    return None if name is None else str(name)


def format_by_version(config: Mapping[str, Any], before: Mapping[str, Step]) -> tuple[PromptFormat, str]:
    """Return the prompt format by LeRobot's version, as far as fields and steps show it, and the reasoning."""
    if "use_relative_actions" in config or RELATIVE in before:
        return "state", "as LeRobot from 0.5.0 writes it"
    if "freeze_vision_encoder" in config or "use_peft" in config:
        doubt = "; if it was trained with 0.5.0, which cannot be told apart, give --prompt_format state"
        return "state32", f"since LeRobot 0.4.4 or 0.5.0 wrote this folder, by the fields of config.json{doubt}"
    return "state32", "since LeRobot 0.4.3 or earlier wrote this folder, by the fields of config.json"


def _prompt_format(
    config: Mapping[str, Any],
    before: Mapping[str, Step],
    sidecar: Mapping[str, Any],
    options: PolicyOptions,
    notes: list[str],
) -> PromptFormat:
    """Decide what the prompt holds: as asked, as `pi05.json` says, or by LeRobot's version as far as it shows."""
    if options.prompt_format is not None:
        return as_prompt_format(options.prompt_format, "prompt_format")
    if "prompt_format" in sidecar:
        return as_prompt_format(sidecar["prompt_format"], SIDECAR)
    found, reason = format_by_version(config, before)
    if found == "state32":
        notes.append(f"prompt: state padded to 32 numbers (state32), pictures padded with -3, as up to 0.4.4, {reason}")
    return found


def _cameras(
    config: Mapping[str, Any],
    before: Mapping[str, Step],
    sidecar: Mapping[str, Any],
    options: PolicyOptions,
    notes: list[str],
) -> CameraSlots:
    """Return LeRobot's cameras in its order as our slots, under the names that the robot sends.

    The network sees their order only; which slots they were trained in, `pi05.json` may tell.
    """
    listed = config.get("input_features") or {}
    cameras = [key for key, feature in listed.items() if feature.get("type") == "VISUAL"]
    cameras = [key for key in cameras if not key.startswith(EMPTY_CAMERA)]
    stored = dict(before[RENAME].settings.get("rename_map") or {}) if RENAME in before else {}
    robots = {target: robot for robot, target in stored.items()}
    known = before[NORMALIZE].statistics
    recorded = [key for key in cameras if key in known or robots.get(key) in known]
    unseen = [key for key in cameras if key not in recorded] if recorded else []
    if unseen:
        notes.append(f"cameras {', '.join(unseen)} have no statistics, so training had no such picture: left empty")
    used = recorded or cameras
    if not used or len(used) > len(SLOTS):
        raise odd("number of cameras", f"1 to {len(SLOTS)}", f"{len(used)}: {', '.join(used) or 'none'}")
    told = None if sidecar.get("slots") is None else CameraSlots.from_dict(sidecar["slots"])
    places = told.used if told is not None and len(told.used) == len(used) else SLOTS
    slots = CameraSlots(
        **{slot: robots.get(key, key) for slot, key in zip(places, used, strict=False)},
        dropped=tuple(robot for robot, target in stored.items() if target in unseen),
    )
    if STATE in robots:
        notes.append(f"the state is called {robots[STATE]} on the robot; send it as {STATE}")
    return rename_cameras(slots, options.rename_map or {}, dict(zip(used, places, strict=False)))


def _relative_mask(
    relative: Step | None, absolute: Step | None, config: Mapping[str, Any], state_dim: int, dim: int, notes: list[str]
) -> tuple[bool, ...] | None:
    """Return which dimensions are relative; an excluded name is one that contains an excluded word, in any case."""
    on = relative is not None and bool(relative.settings.get("enabled", False))
    back = absolute is not None and bool(absolute.settings.get("enabled", False))
    if on != back:
        raise odd("relative actions", f"enabled in both of {RELATIVE} and {ABSOLUTE}, or in none", f"{on} and {back}")
    if bool(config.get("use_relative_actions", on)) != on:
        notes.append(f"relative actions: {PREPROCESSOR} says {on} and counts; config.json says {not on}")
    if not on or relative is None:
        return None
    words = [str(word).lower() for word in relative.settings.get("exclude_joints") or () if word]
    names = [str(name).lower() for name in relative.settings.get("action_names") or ()][:dim]
    mask = [not any(word in name for word in words) for name in names] + [True] * (dim - len(names))
    if any(mask[state_dim:]):
        raise odd("relative actions", f"none beyond the {state_dim} numbers of the state", f"{mask}")
    return tuple(mask) if any(mask) else None


def _action_names(config: Mapping[str, Any], relative: Step | None, dim: int) -> tuple[str, ...]:
    told: Sequence[Any] = config.get("action_feature_names") or ()
    if not told and relative is not None:
        told = relative.settings.get("action_names") or ()
    return _if_of_length(told, dim)


def _if_of_length(names: Sequence[Any] | None, dim: int) -> tuple[str, ...]:
    return tuple(str(name) for name in names) if names is not None and len(names) == dim else ()


def _prompt_length(settings: Mapping[str, Any], config: Mapping[str, Any], sizes: ModelConfig, notes: list[str]) -> int:
    """Return the longest prompt: the tokenizer step's, which LeRobot obeys."""
    length = int(settings.get("max_length", sizes.max_prompt_tokens))
    configured = config.get("tokenizer_max_length", length)
    if configured != length:
        notes.append(f"longest prompt: {PREPROCESSOR} says {length} tokens and counts; config.json says {configured}")
    return length
