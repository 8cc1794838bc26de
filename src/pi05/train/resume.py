"""A run's folder: opened for a new run, or to be continued by the same configuration.

What may change on resume is listed in `FREE`; anything else would make another run of it and is refused by name. The
learning-rate schedule is that of the first start, so that more steps do not bend it in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pi05.checkpoint import run_folder, store
from pi05.checkpoint.file_fields import ResumeFields, about, require_fields
from pi05.checkpoint.locate import Location
from pi05.checkpoint.own.fingerprint import require_unedited
from pi05.checkpoint.run_lock import RunLock
from pi05.data.lerobot.provenance import describe_dataset
from pi05.errors import ConfigError, DataError
from pi05.files import read_json, write_json
from pi05.settings.schema import walk
from pi05.train.config import ALLOW_EDITED, TrainConfig
from pi05.train.network import locate_start
from pi05.train.optim.adamw import Schedule
from pi05.train.records.sources import describe_sources

CONFIG, METRICS, RECEIPT, PREVIEW, DATASET = "config.json", "metrics.jsonl", "receipt.json", "step0", "dataset.json"
CHECKS = "checks.json"
"""What the checks of the data found at the last start, and which errors were passed over."""
SOURCES = "sources.json"
"""Where base, data set and tokenizer were fetched from: commits and hashes, as far as the folders tell."""

FREE = {
    *("resume", "output_dir", "job_name", "allow", "steps", "log_freq", "save_freq", "keep_checkpoints", "eval_steps"),
    *("num_workers", "threads", "policy.device", "policy.compile_model", "policy.gradient_checkpointing"),
    *("activation_checkpointing", "activation_offload", "deterministic"),
    *("optimizer_offload", "parallel", "batch_size", "global_batch_size", "gradient_accumulation_steps"),
    *("dataset.root", "dataset.repo_id", "dataset.cache_dir", "dataset.video_backend"),
    *("policy.push_to_hub", "policy.repo_id", "policy.private", "policy.tags", "policy.license"),
}
"""Settings that may differ on resume. A step must see as many samples, and the data behind `dataset.root` must be the
same; both are checked."""
FREE_GROUPS = ("wandb.", "trackio.")


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run folder that may be written to, and the checkpoint that it continues from."""

    root: Path
    started: bool = False
    """Whether the folder holds the run already, with or without a checkpoint."""
    folder: Path | None = None
    """The checkpoint to continue from; None for a run that has saved none yet."""
    saved: Mapping[str, Any] = field(default_factory=dict)
    """The plain part of the stored training state; empty without a checkpoint."""
    stored: Mapping[str, Any] | None = None
    """The checkpoint's config.json."""
    changed: tuple[str, ...] = ()
    """What the configuration changes against the stored one, as text."""
    base: Location | None = None
    """What a run without a checkpoint starts from, found once for all that is taken from it; None from scratch."""

    @property
    def continues(self) -> bool:
        """Whether the run goes on from a checkpoint."""
        return self.folder is not None

    def episodes(self, count: int) -> tuple[list[int], list[int]] | None:
        """Return the training and held-out episodes that a run goes on with: its own, by whatever rule it chose them.

        None for a run that begins, and for episodes that a set of `count` has not (`require_data_of_run` tells which).
        """
        stored = self.saved["data"] if self.continues else {}
        train, held_out = stored.get("train_episodes"), stored.get("held_out")
        for side in (train, held_out):
            if not isinstance(side, list) or not all(number in range(count) for number in side):
                return None
        return cast(list[int], train), cast(list[int], held_out)

    @property
    def metrics(self) -> Path:
        """Return the path of the records."""
        return self.root / METRICS


def open_run(config: TrainConfig, lock: RunLock) -> OpenRun:
    """Return the folder of a run: one without a run in it, or on resume the one to continue, which is locked.

    Raises ConfigError for a folder that holds a run or that another process writes, for nothing to resume, and for
    settings that differ; what `locate_start` raises.
    """
    root = config.run_dir
    stored_config = root / CONFIG
    if not config.resume:
        require_no_run(root)
        return OpenRun(root=root, base=locate_start(config))
    if not stored_config.exists():
        raise ConfigError(
            f"there is no run to resume in {root}",
            wanted=str(stored_config),
            found="no such file",
            remedy="give the folder of a run with --output_dir, or leave --resume out to start one",
        )
    changed = compare(read_run_config(stored_config), config)
    lock.take()
    run_folder.remove_leftovers(root)
    complete = run_folder.list_checkpoints(root)
    if not complete:
        return OpenRun(root=root, started=True, changed=changed, base=locate_start(config))
    folder = complete[-1]
    saved = store.read_training_state(folder)
    require_fields(saved, ResumeFields, folder / store.TRAINING / store.STATE_FILE)
    if config.steps < saved["step"]:
        raise ConfigError(
            f"--steps={config.steps} lies before what the run has done",
            wanted=f"{saved['step']} or more",
            found=str(config.steps),
            remedy="raise --steps",
        )
    stored = store.read_checkpoint_config(folder)
    if ALLOW_EDITED not in config.allow:
        require_unedited(stored, folder / CONFIG, flag=f"--allow={ALLOW_EDITED}")
    run_folder.point(root, run_folder.LAST, folder)
    best = saved.get("best")
    run_folder.point_best(root, None if best is None else int(best["step"]))
    return OpenRun(
        root=root,
        started=True,
        folder=folder,
        saved=saved,
        stored=stored,
        changed=changed,
    )


def read_run_config(path: Path) -> TrainConfig:
    """Read the configuration of a run. Raises CheckpointError or ConfigError, both of which name the file."""
    with about(path):
        return TrainConfig.from_dict(read_json(path))


def require_no_run(root: Path) -> None:
    """Raise ConfigError for a folder that holds a run."""
    if (root / CONFIG).exists() or run_folder.list_checkpoints(root):
        raise ConfigError(
            f"{root} holds a run already",
            wanted="a folder without one",
            found=", ".join(sorted(path.name for path in root.iterdir())[:6]),
            remedy=f"choose another --output_dir, or continue that run: pi05 train --resume {root}",
        )


def take_folder(run: OpenRun, lock: RunLock) -> None:
    """Make the run's folder and lock it. Raises ConfigError when another process has taken it since it was opened."""
    run.root.mkdir(parents=True, exist_ok=True)
    lock.take()
    if not run.started:
        require_no_run(run.root)


def compare(stored: TrainConfig, config: TrainConfig) -> tuple[str, ...]:
    """Return the permitted differences as text. Raises ConfigError naming those that are not permitted."""
    permitted: list[str] = []
    refused: list[str] = []
    for setting in walk(TrainConfig):
        before, now = lookup(stored, setting.path), lookup(config, setting.path)
        if before == now or setting.path in ("resume", "output_dir"):
            continue
        free = setting.path in FREE or setting.path.startswith(FREE_GROUPS)
        (permitted if free else refused).append(f"{setting.path} {before} → {now}")
    if refused:
        raise ConfigError(
            "the run was started with other settings, and would not be the same run with these",
            wanted="the settings of its config.json",
            found="; ".join(refused),
            remedy="leave these flags out, or start a new run with another --output_dir",
        )
    return tuple(permitted)


def require_batch_of_run(run: OpenRun, config: TrainConfig, world_size: int) -> None:
    """Raise ConfigError when a step of a resumed run would see another number of samples than before."""
    if not run.continues:
        return
    before, now = int(run.saved["samples_per_step"]), config.samples_per_step(world_size)
    if before != now:
        raise ConfigError(
            "a step would see another number of samples than before, and the run would not be the same",
            wanted=f"{before} samples per step, as on {run.saved['world_size']} GPUs",
            found=f"{now} on {world_size}",
            remedy=f"give --global_batch_size={before}; where a GPU has no room for its share, also "
            "--gradient_accumulation_steps",
        )


def lookup(config: Any, path: str) -> Any:
    """Return the value of a dotted path."""
    for name in path.split("."):
        config = getattr(config, name)
    return config


def start_files(
    run: OpenRun, config: TrainConfig, receipt: Mapping[str, Any] | None, checks: Mapping[str, Any]
) -> None:
    """Write the configuration and what was found about the data; for a new run where weights and data came from."""
    write_json(run.root / CONFIG, config.to_dict())
    write_json(run.root / CHECKS, checks)
    if not run.continues:
        known = {"source": "drawn from the seed", "seed": config.seed} if receipt is None else dict(receipt)
        write_json(run.root / RECEIPT, known)
        if config.dataset.root is not None:
            facts = describe_dataset(Path(config.dataset.root), config.dataset.repo_id)
            write_json(run.root / DATASET, facts)
        write_json(run.root / SOURCES, describe_sources(config))


def require_data_of_run(run: OpenRun, identity: Mapping[str, Any]) -> None:
    """Raise DataError when a resumed run would go on with other data than it was started with."""
    if not run.continues:
        return
    stored = run.saved["data"]
    known = [name for name in identity if name in stored]  # version 0.1 noted less
    differing = [name for name in known if stored[name] != identity[name]]
    if differing:
        raise DataError(
            f"the data set is not the one that the run was started with: other {', '.join(differing)}",
            wanted="; ".join(f"{name} {_short(stored.get(name))}" for name in differing),
            found="; ".join(f"{name} {_short(identity[name])}" for name in differing),
            remedy="restore the data set, or start a new run with another --output_dir",
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def base_of(run: OpenRun) -> dict[str, str] | None:
    """Return path and hash of the base weights, as the checkpoint recorded them."""
    return None if run.stored is None else run.stored.get("base")


def build_schedule(config: TrainConfig, saved: Mapping[str, Any]) -> Schedule:
    """Return the schedule of the first start: the stored one on resume, else the one that the settings describe."""
    if "schedule" in saved:
        return Schedule(**saved["schedule"])
    return Schedule(
        peak=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=config.decay_steps,
        end=config.decay_lr,
    )


def schedule_notice(config: TrainConfig, schedule: Schedule) -> str | None:
    """Say so when the settings alone would give another schedule than the run's own."""
    if build_schedule(config, {}) == schedule:
        return None
    return (
        "the learning rate keeps the schedule of the run's first start, and stays "
        f"at {schedule.end:g} from step {schedule.decay_steps:,} on"
    )
