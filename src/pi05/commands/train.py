"""`pi05 train`: from its words to a `TrainConfig` that can run, and the run. No torch when it is imported.

Order of precedence: field defaults, then a preset or the configuration of an earlier run, then the flags.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pi05 import presets
from pi05.commands.command import OFFLINE, Command
from pi05.commands.earlier_run import read_earlier_run, run_config_file
from pi05.commands.run_files import require_files
from pi05.errors import INTERRUPTED, ConfigError, TrainingError, doing, tell
from pi05.settings.flags import BOOLEANS, Flags, Translation, overlay, parse_flags
from pi05.settings.lerobot_flags import refuse_value, spellings, translate_training_flag
from pi05.settings.lerobot_parallel import Degrees, Processes, Split
from pi05.settings.schema import Setting
from pi05.train.config import TrainConfig
from pi05.train.method import LORA_RATE, MEANINGS, Method
from pi05.waits import waiting

CONFIG_PATH = Setting("config_path", str | None, None, "Start from the config.json of an earlier run (file or folder).")
METHOD = Setting(
    "method",
    Method | None,
    None,
    "What to train, in one word; docs/memory.md tells which when, and `pi05 plan` which fits.\n"
    "- full: everything; the most that can be learnt, and the most memory.\n"
    "- frozen-vision: everything but the vision tower (--policy.freeze_vision_encoder).\n"
    "- expert: the action expert only (--policy.train_expert_only); the fastest, learns no new sights or words.\n"
    "- lora: low-rank adapters on a frozen base (--policy.use_peft); small GPUs, small checkpoints.\n"
    "- qlora: the same on a base in 4 bits (--peft.quantize=nf4); the smallest GPUs.",
)
EXTRA_FLAGS = (METHOD, CONFIG_PATH)
_RATE_NOTICE = f"LoRA learns at {LORA_RATE} times the rate of full fine-tuning"


def train(arguments: Sequence[str]) -> int:
    """Run `pi05 train`."""
    request = read_command(arguments)
    speaks = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    for notice in request.notices * speaks:
        tell(f"note: {notice}", aside=True)
    if request.config.policy.push_to_hub and speaks:
        from pi05.hub.publish import check_before_training

        check_before_training(request.config)
    try:
        with waiting("loading torch", partial(tell, aside=True) if speaks else lambda _: None):
            from pi05.train.loop import train as run

        with doing("train in", request.config.run_dir, TrainingError):
            run(request.config)
    except KeyboardInterrupt:
        if speaks:
            tell(f"\nInterrupted. {what_was_saved(request.config.run_dir)}", aside=True)
        return INTERRUPTED
    if request.config.policy.push_to_hub and speaks:
        from pi05.hub.publish import publish_after_training

        publish_after_training(request.config)
    return 0


@dataclass(frozen=True)
class TrainRequest:
    """A configuration that can run, and what the user should read before it does."""

    config: TrainConfig
    notices: tuple[str, ...]


def read_command(arguments: Sequence[str]) -> TrainRequest:
    """Build the configuration of a command line, with folders for names, and check that its files are there.

    Raises a UserError.
    """
    from pi05.train.records.sources import settle_sources

    request, _ = read_training_settings(arguments)
    config = settle_sources(request.config)
    require_files(config)
    return replace(request, config=config)


def read_training_settings(
    arguments: Sequence[str], further: Sequence[Setting] = (), word: str | None = None
) -> tuple[TrainRequest, dict[str, Any]]:
    """Build the configuration of a command line, whatever files there are; return the values of `further` flags too.

    `word` is the setting that a word without a flag stands for, for commands that take one.
    """
    degrees = Degrees()

    def foreign(path: str, text: str | None) -> Translation | None:
        return degrees.translate(path, text) or translate_training_flag(path, text)

    flags = parse_flags(
        TrainConfig,
        _resume_shorthand(arguments),
        foreign=foreign,
        refuse_value=refuse_value,
        extra={setting.path: setting.kind for setting in (*EXTRA_FLAGS, *further)},
    )
    if word is not None and len(flags.words) == 1:
        flags.values[word] = flags.words.pop()
    if flags.words:
        raise ConfigError(f"'{flags.words[0]}' is no flag", remedy="write settings as --name=value")
    values = {setting.path: flags.values.pop(setting.path, setting.default) for setting in further}
    processes = None if further else Processes.of(os.environ)  # a plan says itself how many GPUs there are
    _settle_split(flags.values, degrees.split(processes))
    config = _build(flags, processes)
    return TrainRequest(config, tuple(flags.notices)), values


def _settle_split(values: dict[str, Any], split: Split | None) -> None:
    """Take LeRobot's degrees of parallelism as `--parallel`. Raises ConfigError where both are given and differ."""
    if split is not None and values.setdefault("parallel", split) != split:
        raise _contradiction(f"--parallel={values['parallel']}", f"--parallelism.* (which mean {split})")


def _resume_shorthand(arguments: Sequence[str]) -> list[str]:
    """Write `--resume RUN` as the two flags that it stands for."""
    words = list(arguments)
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        rest = words[i + 1 :]
        if name == "--resume" and not equals and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
        if name == "--resume" and value and (Path(value).is_dir() or value.lower() not in BOOLEANS):
            return [*words[:i], "--resume=true", f"--config_path={value}", *rest]
    return words


def _build(flags: Flags, processes: Processes | None) -> TrainConfig:
    values = dict(flags.values)
    file = values.pop("config_path", None)
    resume = bool(values.get("resume", False))
    if file is None and resume:
        file = values.get("output_dir")
        if file is None:
            raise ConfigError("--resume does not say which run", remedy="use --resume RUN, the run's folder")
    if file is not None and values.get("preset") is not None:
        remedy = "drop --preset: the file holds every setting"
        raise ConfigError("--preset cannot be combined with an earlier run's configuration", remedy=remedy)
    if file is not None:
        base = read_earlier_run(run_config_file(file), flags, processes, keep_folder=resume)
    elif values.get("preset") is not None:
        base = presets.get(values["preset"]).to_dict()
    else:
        base = TrainConfig().to_dict()
    if values.get("policy.path") == presets.TINY_BASE.name and not Path(presets.TINY_BASE.name).exists():
        values["policy.path"] = str(presets.TINY_BASE)
    _settle_batch(base, values)
    _settle_method(base, values, flags.notices)
    if values.get("from_scratch") and "policy.path" not in values:
        values["policy.path"] = None
    config = TrainConfig.from_dict(overlay(base, values))
    if config.uses_adapters and config.policy.optimizer_lr is None and not config.resume:
        flags.notices.append(f"{_RATE_NOTICE}: --policy.optimizer_lr={config.learning_rate:g}")
    if config.output_dir is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        config = replace(config, output_dir=str(Path("runs") / f"{config.name}-{stamp}"))
    return config


def _settle_batch(base: dict[str, Any], values: dict[str, Any]) -> None:
    """Let a batch size from the command line replace the other kind of batch size in the preset or file."""
    given = [name for name in ("batch_size", "global_batch_size") if values.get(name) is not None]
    if len(given) == 2:
        remedy = "use --batch_size (per GPU) or --global_batch_size (in total)"
        raise ConfigError("--batch_size and --global_batch_size were both given", remedy=remedy)
    if given == ["batch_size"]:
        base["global_batch_size"] = None


def _settle_method(base: dict[str, Any], values: dict[str, Any], notices: list[str]) -> None:
    """Turn `--method` and the flags of LoRA into settings. Raises ConfigError where they contradict each other."""
    method: Method | None = values.pop("method", None)
    if method is not None:
        for name, value in MEANINGS[method].required.items():
            if values.setdefault(name, value) != value:
                raise _contradiction(f"--method={method}", f"--{name}={str(values[name]).lower()}")
        for name, value in MEANINGS[method].usual.items():
            values.setdefault(name, value)
    if method == "qlora" and values["peft.quantize"] == "none":
        raise _contradiction("--method=qlora", "--peft.quantize=none")
    asked = [name for name in values if name.startswith("peft.")]
    if asked and values.get("policy.use_peft") is False:
        off = "--policy.use_peft=false" if method is None else f"--method={method}"
        raise _contradiction(f"--{asked[0]}", off)
    was = base["policy"]["use_peft"]
    if asked and not was and "policy.use_peft" not in values:
        values["policy.use_peft"] = True
        notices.append(f"--{asked[0]} asks for LoRA: low-rank adapters are trained on a frozen base")
    now = values.get("policy.use_peft", was)
    if now != was and not values.get("resume"):
        _scale_stored_rates(base, values, notices, LORA_RATE if now else 1 / LORA_RATE)


def _contradiction(one: str, other: str) -> ConfigError:
    return ConfigError(f"{one} and {other} contradict each other", wanted="one of them", remedy="remove one of the two")


def _scale_stored_rates(base: dict[str, Any], values: dict[str, Any], notices: list[str], factor: float) -> None:
    """Change the learning rates that an earlier run's file names where LoRA is switched on, or off, and none is given.

    A rate that nobody has named follows from preset and method (`train/method.py`).
    """
    fitted = {}
    for name in ("optimizer_lr", "scheduler_decay_lr"):
        if base["policy"][name] is not None and f"policy.{name}" not in values and "policy.optimizer_lr" not in values:
            fitted[f"policy.{name}"] = float(f"{factor * base['policy'][name]:.6g}")
    if fitted:
        told = ", ".join(f"--{name}={value:g}" for name, value in fitted.items())
        notices.append(f"{_RATE_NOTICE}: {told}")
    values |= fitted


def what_was_saved(run_dir: Path) -> str:
    """Return the lines to print when a run is interrupted: what there is, and how to continue."""
    last = run_dir / "checkpoints" / "last"
    if not last.exists():
        return f"No checkpoint was saved in {run_dir}."
    return f"Saved so far: {last.resolve()}\nContinue with: pi05 train --resume {run_dir}"


COMMAND = Command(
    summary="Fine-tune: full, frozen vision, expert, LoRA, QLoRA; resume.",
    usage="pi05 train [--preset=NAME] --dataset.root=DATA --policy.path=BASE [flags]",
    run=train,
    settings=TrainConfig,
    extra=(*EXTRA_FLAGS, OFFLINE),
    spellings=spellings,
)
