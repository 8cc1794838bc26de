"""Is what a run reads there, and can what it writes be written? Asked before torch is loaded.

Whether data set and base are sound is seen when they are read.
"""

from __future__ import annotations

import os
from pathlib import Path

from pi05.errors import CheckpointError, ConfigError, DataError
from pi05.sources.names import DATASET_FOLDER
from pi05.train.config import TrainConfig


def require_files(config: TrainConfig) -> None:
    """Raise a UserError unless the data set and the base checkpoint are there; whether they are sound is seen later."""
    if config.dataset.root is None:
        raise DataError(
            "no data set was given",
            wanted="--dataset.root=FOLDER, or --dataset.repo_id=OWNER/NAME of one on the hub",
            found=None if config.dataset.repo_id is None else f"--dataset.repo_id={config.dataset.repo_id}",
            remedy="add --dataset.root=FOLDER; without any, pi05 collect makes one and pi05 demo shows the chain",
        )
    if not Path(config.dataset.root).is_dir():
        name = config.dataset.repo_id
        if config.dataset.root == DATASET_FOLDER:
            raise DataError(
                f"there is no data set in {DATASET_FOLDER}",
                wanted=f"{DATASET_FOLDER}/ in the working directory, beside scripts/ or in it",
                found="none in any of them",
                remedy=f"put or link your recordings there, or pi05 fetch {name or 'NAME'} --repo-type=dataset; "
                f"pi05 collect --episodes=100 --output={DATASET_FOLDER} makes simulated ones",
            )
        fetch = (
            "" if name is None else f", or fetch it: pi05 fetch {name} --repo-type=dataset --to {config.dataset.root}"
        )
        raise DataError(
            f"there is no data set at {config.dataset.root}",
            wanted="a folder that holds meta/info.json",
            found="a file" if Path(config.dataset.root).exists() else "nothing",
            remedy=f"correct --dataset.root{fetch}",
        )
    require_output_folder(config.run_dir)
    if config.resume or config.from_scratch:
        return
    path = config.policy.path
    if path is None:
        raise CheckpointError(
            "no base checkpoint was given, and nothing trains from random weights unless asked to",
            wanted="--policy.path=FOLDER, or OWNER/NAME of one on the hub",
            remedy="--policy.path=lerobot/pi05_base; on a CPU: --preset=tiny, which brings its own; or --from_scratch",
        )
    if not Path(path).exists():
        raise CheckpointError(
            f"there is no base checkpoint at {path}",
            wanted="a local folder or file, or OWNER/NAME of one on the hub",
            found="nothing",
            remedy="correct --policy.path",
        )


def require_output_folder(run_dir: Path) -> None:
    """Raise ConfigError unless the run's folder, or the one that it will be made in, can be written."""
    place = next(place for place in (run_dir.absolute(), *run_dir.absolute().parents) if os.path.exists(place))
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(
            f"nothing can be written to --output_dir={run_dir}",
            wanted="a folder that can be written",
            found=f"no permission to write in {place}" if place.is_dir() else f"{place} is a file",
            remedy="choose another --output_dir",
        )
