"""`pi05 push`, and the end of a training run that was asked to publish: export, card, upload.

    RUN/hub/files/          what is sent: LeRobot's layout, tokenizer, processors, README.md; gone when all has arrived
    RUN/hub/state.json      what it was made of, what has arrived, the commit

The run itself is only read. An upload that ends early leaves both; the same command then goes on with them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pi05
from pi05.checkpoint.file_names import ADAPTER_CONFIG, CONFIG
from pi05.checkpoint.locate import locate
from pi05.checkpoint.run_folder import list_checkpoints, resolve_checkpoint
from pi05.checkpoint.sidecar import read_sidecar, write_sidecar
from pi05.errors import CheckpointError, ConfigError, HubError, tell, visible
from pi05.export.export import export_policy
from pi05.files import expand_home, read_json, remove_tree, write_atomic, write_json
from pi05.hub.access import check_access, connect
from pi05.hub.card import Publication, render_card
from pi05.hub.config import PushConfig
from pi05.hub.facts import Facts, gather
from pi05.hub.upload import Sent, UploadTarget, upload
from pi05.settings.schema import to_plain, walk
from pi05.sources.faults import Patience, Say
from pi05.train.config import TrainConfig
from pi05.train.records.history import now
from pi05.train.resume import read_run_config

FOLDER, FILES, STATE, CARD = "hub", "files", "state.json", "README.md"


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was published, or with --dry_run would be."""

    folder: Path
    sent: Sent | None
    """None: nothing was sent."""


def publish(source: Path, config: PushConfig, *, patience: Patience | None = None, say: Say = tell) -> Published:
    """Publish a run, or one of its checkpoints.

    Raises ConfigError and CheckpointError for what cannot be published, and HubError for an upload that did not come
    through; then the run is as it was, and the same command continues.
    """
    run, checkpoint = find_run(source)
    config = with_wish_of_run(run, config)
    patience = patience or Patience()
    say(f"publishing {checkpoint}")
    try:
        if config.dry_run:
            files = prepare(run, checkpoint, config, say)
            list_files(files, say)
            return Published(folder=files, sent=None)
        access = check_access(
            str(config.repo_id), private=config.private, endpoint=config.endpoint, patience=patience, say=say
        )
        say(access.render())
        config = replace(config, repo_id=access.repo_id)
        files = prepare(run, checkpoint, config, say)
        sent = send(run, files, config, patience, say)
    except HubError as error:
        again = f"then: {command_line(source, config)}"
        raise HubError(
            error.problem, wanted=error.wanted, found=error.found, remedy=f"{error.remedy}; {again}"
        ) from error
    except KeyboardInterrupt:
        say(f"\nstopped; the run is whole. Continue with: {command_line(source, config)}")
        raise
    return Published(folder=files, sent=sent)


def find_run(source: Path) -> tuple[Path, Path]:
    """Return the run and the checkpoint that a path means: the run's last one when it names the run."""
    path = expand_home(source)
    if path.parent.name == "checkpoints" and (path.parent.parent / CONFIG).is_file():
        return path.parent.parent, resolve_checkpoint(path)
    if (path / CONFIG).is_file() and list_checkpoints(path):
        return path, resolve_checkpoint(path)
    raise CheckpointError(
        "this is not a run that could be published",
        wanted="the folder of a run that has saved a checkpoint, or one of its checkpoints",
        found=f"{path} {'holds no checkpoints' if path.is_dir() else 'is not a folder'}",
        remedy="give the --output_dir of pi05 train; other folders are sent as they are by: hf upload",
    )


def with_wish_of_run(run: Path, config: PushConfig) -> PushConfig:
    """Return the settings, with those that the run was started with where the command has none."""
    policy = read_run_config(run / CONFIG).policy
    wish: dict[str, Any] = {
        "repo_id": policy.repo_id,
        "private": policy.private,
        "license": policy.license,
        "tags": policy.tags or (),
    }
    config = replace(config, **{name: value for name, value in wish.items() if getattr(config, name) in (None, ())})
    if config.repo_id is None:
        raise ConfigError("pi05 push needs a repository", wanted="--repo_id=OWNER/NAME", remedy="add --repo_id")
    if config.dry_run and "/" not in config.repo_id:
        raise ConfigError(
            "a dry run asks the hub for nothing, so the owner of the repository has to be given",
            wanted="--repo_id=OWNER/NAME",
            found=config.repo_id,
            remedy="add the owner",
        )
    return config


def prepare(run: Path, checkpoint: Path, config: PushConfig, say: Say) -> Path:
    """Write what is to be sent, or take what an earlier try has written of the same; return its folder."""
    folder = run / FOLDER
    files, state = folder / FILES, folder / STATE
    facts = gather(run, checkpoint, base_model=config.base_model, dataset_license=config.dataset_license)
    base_name = (facts["base"] or {}).get("name") if config.adapter_only else None
    if config.adapter_only and not (checkpoint / ADAPTER_CONFIG).is_file():
        raise ConfigError(
            "there is no adapter to publish",
            wanted="a run that was trained with --method lora",
            found=f"full weights in {checkpoint}",
            remedy="leave --adapter_only out",
        )
    if config.adapter_only and base_name is None:
        raise ConfigError(
            "an adapter is of no use without the name of its base",
            wanted="--base_model=OWNER/NAME, where the base is on the hub",
            found="the run does not tell it",
            remedy="add --base_model, or publish the merged weights without --adapter_only",
        )
    made_of = {
        "checkpoint": checkpoint.name,
        "content": {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in _weights(checkpoint)},
        "repo_id": config.repo_id,
        "dtype": config.dtype or "float32",
        "adapter_only": config.adapter_only,
        "base": base_name,
        "pi05": pi05.__version__,
    }
    before = read_json(state) if state.is_file() else {}
    if before.get("made_of") == made_of and files.is_dir():
        say(f"continuing with {files}")
    else:
        state.unlink(missing_ok=True)
        remove_tree(files)
        export_policy(
            locate(checkpoint),
            files,
            to="lerobot",
            adapter_only=config.adapter_only,
            dtype=config.dtype or "float32",
            tokenizer_name=config.repo_id,
            base_name=base_name,
            say=say,
        )
        forget_local_paths(files, facts)
        write_json(state, {"made_of": made_of, "status": "not sent", "arrived": []})
    write_atomic(files / CARD, render_card(facts, _publication(config)).encode())
    return files


def _weights(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.glob("*.safetensors"))


def _publication(config: PushConfig) -> Publication:
    return Publication(
        repo_id=str(config.repo_id),
        date=now()[:10],
        license=config.license,
        tags=config.tags,
        adapter_only=config.adapter_only,
        revision=config.revision,
    )


def forget_local_paths(folder: Path, facts: Facts) -> None:
    """Keep of each absolute path in pi05.json only its last name: where something lay here helps nobody there."""
    values = read_sidecar(folder)
    if values is None:
        return
    base = facts["base"]
    values = shorten(values)
    if base is not None and base["name"] is not None and isinstance(values.get("base"), dict):
        values["base"] = {**values["base"], "path": base["name"]}
    write_sidecar(folder, values)


def shorten(value: Any) -> Any:
    """Return plain data with absolute paths replaced by their last names."""
    if isinstance(value, Mapping):
        return {key: shorten(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shorten(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def send(run: Path, files: Path, config: PushConfig, patience: Patience, say: Say) -> Sent:
    """Send the prepared files, noting what has arrived; remove them when all has."""
    state = run / FOLDER / STATE
    noted = read_json(state)

    def note(**values: Any) -> None:
        noted.update(values)
        write_json(state, noted)

    target = UploadTarget(
        hub=connect(config.endpoint), repo_id=str(config.repo_id), revision=config.revision, private=config.private
    )
    arrived: list[str] = []

    def take_note(path: str) -> None:
        arrived.append(path)
        note(status="sending", arrived=arrived)

    step = noted["made_of"]["checkpoint"]
    message = config.message or f"{run.resolve().name}, step {int(step):,}: policy of pi05 {pi05.__version__}"
    sent = upload(files, target, message=message, patience=patience, say=say, arrived=take_note)
    note(status="published", url=visible(sent.url), commit=sent.commit, date=now(), files=sent.files, bytes=sent.bytes)
    remove_tree(files)
    done = "published" if sent.changed else "was there already"
    say(f"{done}: {sent.url} ({sent.files} files, {sent.bytes / 1e6:,.1f} MB, commit {sent.commit[:12]})")
    return sent


def list_files(files: Path, say: Say) -> None:
    """Say what would be sent."""
    paths = sorted(path for path in files.rglob("*") if path.is_file())
    for path in paths:
        say(f"  {path.stat().st_size:>14,} bytes  {path.relative_to(files).as_posix()}")
    total = sum(path.stat().st_size for path in paths)
    say(f"dry run: {len(paths)} files, {total / 1e6:,.1f} MB in {files}; nothing was sent")


def command_line(source: Path, config: PushConfig) -> str:
    """Return the command that does the same again."""
    words = ["pi05", "push", str(source)]
    for setting in walk(PushConfig):
        value = getattr(config, setting.path)
        if value != setting.default:
            text = f"[{','.join(value)}]" if isinstance(value, tuple) else str(to_plain(value))
            words.append(f"--{setting.path}={text.lower() if isinstance(value, bool) else text}")
    return shlex.join(words)


def wish_of(config: TrainConfig) -> PushConfig:
    """Return how a training run asks to be published."""
    policy = config.policy
    return PushConfig(repo_id=policy.repo_id, private=policy.private, tags=policy.tags or (), license=policy.license)


def check_before_training(config: TrainConfig, say: Say = tell) -> None:
    """Raise HubError unless the run could be published now. Does nothing for a run that shall not be."""
    if config.policy.push_to_hub:
        say(check_access(str(config.policy.repo_id), private=config.policy.private, say=say).render())


def publish_after_training(config: TrainConfig, say: Say = tell) -> None:
    """Publish a finished run that was asked to be. Raises HubError, after saying that the run itself is safe."""
    if not config.policy.push_to_hub:
        return
    try:
        publish(config.run_dir, wish_of(config), say=say)
    except HubError as error:
        raise HubError(
            f"training is done and saved in {config.run_dir}; publishing it failed: {error.problem}",
            wanted=error.wanted,
            found=error.found,
            remedy=error.remedy,
        ) from error
