"""What `--config_path` and `--resume` name: the configuration of an earlier run, ours or LeRobot's. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pi05.errors import ConfigError
from pi05.files import parse_json, read_regular
from pi05.settings.flags import Flags, overlay
from pi05.settings.lerobot_parallel import Processes
from pi05.settings.lerobot_run import is_lerobot_run, read_lerobot_run
from pi05.settings.schema import walk
from pi05.train.config import TrainConfig


def run_config_file(given: str) -> Path:
    """Find the configuration that a path names: the file, a run's folder, or one of its checkpoints; LeRobot's too."""
    path = Path(given)
    folder = path if path.is_dir() else path.parent
    for place in (path, path / "pretrained_model", path / "checkpoints" / "last" / "pretrained_model"):
        if (place / "train_config.json").is_file():
            return place / "train_config.json"
    if folder.parent.name == "checkpoints":
        return folder.parent.parent / "config.json"
    return path / "config.json" if path.is_dir() else path


def read_earlier_run(file: Path, flags: Flags, processes: Processes | None, *, keep_folder: bool) -> dict[str, Any]:
    """Return an earlier run's configuration as plain data; notices about it go to `flags`. Raises ConfigError."""
    remedy = "give the run's folder, or its config.json"
    try:
        plain = parse_json(read_regular(file).decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration at {file}", remedy=remedy) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as a configuration", found=str(error), remedy=remedy) from None
    if is_lerobot_run(plain):
        if keep_folder:
            raise ConfigError(
                f"{file} was written by LeRobot, whose runs cannot be continued here",
                remedy="start a run with its settings: --config_path without --resume; from its weights: --policy.path",
            )
        known = {setting.path for setting in walk(TrainConfig)}
        plain, notices = read_lerobot_run(plain, str(file), known, flags.values, processes)
        flags.notices.extend(notices)
        plain = overlay(TrainConfig().to_dict(), plain)
    try:
        config = TrainConfig.from_dict(plain).to_dict()
    except ConfigError as error:
        raise ConfigError(
            f"{file}: {error.problem}", wanted=error.wanted, found=error.found, remedy=error.remedy
        ) from error
    config["resume"] = False
    config["output_dir"] = str(file.parent) if keep_folder else None
    return config
