"""What a run takes from its data set: the folder, cameras into slots, episodes to train on, relative dimensions.

Each choice is a function of the settings and of what the data set tells of itself, so that planner, checks and run
decide alike. Reads no picture and computes nothing; what is then made of the data is in `data.py`.
"""

from __future__ import annotations

import numpy as np

from pi05.check.config import as_words
from pi05.data.cameras import CameraSlots, assign_slots
from pi05.data.config import DatasetConfig
from pi05.data.lerobot.reader import Dataset
from pi05.data.libero import camera_slots
from pi05.data.split import split_episodes
from pi05.data.transforms import relative_mask, require_pairs
from pi05.errors import ConfigError, DataError
from pi05.train.config import OWN_ALLOWANCES, TrainConfig

DEFAULT_EXCLUSION = ("gripper",)
"""Action dimensions that stay absolute with relative actions when the user names none: LeRobot's default."""


def open_dataset(config: TrainConfig) -> Dataset:
    """Open the data set of the run."""
    if config.dataset.root is None:
        raise DataError(
            "no data set was given", wanted="--dataset.root=FOLDER", remedy="give a LeRobot data set folder"
        )
    return Dataset(
        config.dataset.root,
        drop_cameras=config.drop_cameras,
        allow=[check for check in as_words(config.allow) if check not in OWN_ALLOWANCES],
        unused=config.dataset.exclude_episodes or (),
        episodes=config.dataset.episodes,
        state=config.dataset.state,
        action=config.dataset.action,
    )


def choose_slots(config: TrainConfig, dataset: Dataset) -> CameraSlots:
    """Place the cameras. Raises DataError when the number of empty slots is not the expected one."""
    cameras = [*dataset.camera_keys, *dataset.dropped_cameras]
    known = camera_slots(cameras) if config.preset == "sim" and not (config.rename_map or config.drop_cameras) else {}
    slots = assign_slots(cameras, {**known, **config.rename_map}, dataset.dropped_cameras)
    empty = sum(camera is None for camera in slots.by_slot.values())
    expected = config.policy.empty_cameras
    if expected is not None and expected != empty:
        raise DataError(
            "another number of camera slots stays empty than expected",
            wanted=f"--policy.empty_cameras={expected}",
            found=f"{empty}\n{slots.describe()}",
            remedy="correct --policy.empty_cameras or --rename_map, or leave --policy.empty_cameras out",
        )
    return slots


def choose_episodes(config: DatasetConfig, dataset: Dataset, seed: int) -> tuple[list[int], list[int]]:
    """Return training and held-out episodes among those that the user wants."""
    wanted = set(range(dataset.num_episodes)) if config.episodes is None else set(config.episodes)
    for name, given in (("episodes", config.episodes), ("exclude_episodes", config.exclude_episodes)):
        strangers = sorted(set(given or ()) - set(range(dataset.num_episodes)))
        if strangers:
            raise ConfigError(
                f"--dataset.{name} names episodes that the data set has not",
                wanted=f"numbers from 0 to {dataset.num_episodes - 1}",
                found=", ".join(map(str, strangers)),
                remedy=f"correct --dataset.{name}",
            )
    wanted -= set(config.exclude_episodes or ())
    train, held_out = split_episodes(dataset, config.eval_split, seed, sorted(wanted))
    if not train:
        raise ConfigError(
            "no episode is left to train on",
            wanted="at least one",
            found=f"{len(wanted)} of {dataset.num_episodes} episodes chosen, {len(held_out)} held out",
            remedy="choose more with --dataset.episodes, or lower --dataset.eval_split",
        )
    return train, held_out


def choose_relative(config: TrainConfig, dataset: Dataset) -> np.ndarray | None:
    """Return which action dimensions are relative to the state; None when all are absolute.

    Raises DataError for a word of the user's that no dimension has in its name (a robot without a gripper is no fault),
    where nothing would be relative, and where a state of the same name lies at another index.
    """
    if not config.policy.use_relative_actions:
        return None
    words = config.policy.relative_exclude_joints
    if words is None:
        words = tuple(word for word in DEFAULT_EXCLUSION if any(word in name.lower() for name in dataset.action_names))
    mask = relative_mask(dataset.action_names, words, named=dataset.names_actions)
    require_pairs(dataset.action_names, dataset.state_names, mask)
    return mask
