"""Everything that the card of a policy says, read from the files of its run. What no file tells is None, never guessed.

No local path goes on a card: of folders only the last name. Dates are those of `history.json`; runs of versions that
did not write it have none. Leaves out the words (`card.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pi05.checkpoint.file_fields import OwnPolicy, read_fields, require_fields
from pi05.checkpoint.file_names import CONFIG
from pi05.checkpoint.store import TRAINING, read_checkpoint_config, read_training_state
from pi05.data.lerobot.provenance import DatasetFacts, describe_dataset, read_license
from pi05.files import parse_json, read_regular
from pi05.model.config import ModelConfig, pi05
from pi05.settings.fields import find_fault
from pi05.sources.names import valid_name
from pi05.sources.receipt import describe_source
from pi05.train.config import TINY_BASE, TrainConfig
from pi05.train.records.fields import Sample
from pi05.train.records.history import read_history
from pi05.train.records.read import read_run
from pi05.train.records.run_record import RunRecord, is_number
from pi05.train.resume import DATASET, read_run_config

Facts = dict[str, Any]


def gather(
    run: Path,
    checkpoint: Path,
    *,
    base_model: str | None = None,
    dataset_license: str | None = None,
) -> Facts:
    """Return the facts of the policy in `checkpoint`, a checkpoint of `run`; the rest is what the user states."""
    record = read_run(run)
    config = read_run_config(run / CONFIG)
    stored = read_checkpoint_config(checkpoint)
    require_fields(stored, OwnPolicy, checkpoint / CONFIG)
    step = int(stored["step"])
    state = read_training_state(checkpoint) if (checkpoint / TRAINING).is_dir() else {}
    return {
        "step": step,
        "total_steps": config.steps,
        "version": stored.get("pi05_version"),
        "policy": describe_policy(stored),
        "base": describe_base(record.receipt, stored, base_model),
        "data": describe_data(run, config, state, dataset_license),
        "method": describe_method(config, record, state),
        "sessions": describe_sessions(read_history(run), step),
        "numbers": describe_numbers(record, step, state),
        "evaluations": [describe_evaluation(found, step) for found in record.evaluations],
        "task": next((sample.get("task") for sample in _samples(run) if sample.get("task")), None),
    }


def describe_policy(stored: Mapping[str, Any]) -> Facts:
    """Return what goes in and what comes out."""
    processor, sizes = stored["processor"], ModelConfig.from_dict(stored["model"])
    slots = {slot: camera for slot, camera in processor["slots"].items() if slot != "dropped"}
    full, same = pi05().to_dict(), sizes.to_dict()
    free = {"horizon", "max_prompt_tokens"}
    return {
        "cameras": {slot: camera for slot, camera in slots.items() if camera is not None},
        "empty_slots": [slot for slot, camera in slots.items() if camera is None],
        "state": len(processor["state_names"]),
        "action_names": list(processor["action_names"]),
        "actions": len(processor["action_names"]),
        "fps": processor.get("fps"),
        "horizon": processor["horizon"],
        "n_action_steps": stored.get("n_action_steps"),
        "image_size": sizes.image_size,
        "prompt_format": processor.get("prompt_format"),
        "normalization": processor.get("normalization"),
        "relative": processor.get("relative_mask") is not None,
        "full_size": all(full[name] == same[name] for name in full if name not in free),
    }


def describe_base(receipt: Mapping[str, Any], stored: Mapping[str, Any], name: str | None) -> Facts | None:
    """Return what training started from; None for random weights.

    The name on the hub is the one that the user states, or that of a receipt or of the client's cache; a folder's own
    name proves nothing.
    """
    base = stored.get("base") or {}
    source = str((receipt.get("layout") and receipt.get("source")) or base.get("path") or "")
    if not source:
        return None
    fetched = describe_source(source) or {}
    packaged = Path(source).resolve() == TINY_BASE.resolve()
    license_, where = read_license(Path(source) if Path(source).is_dir() else Path(source).parent)
    return {
        "name": name or fetched.get("name"),
        "stated": name is not None,
        "folder": Path(source).name,
        "packaged": packaged,
        "layout": receipt.get("layout"),
        "revision": receipt.get("revision") or fetched.get("commit"),
        "sha256": receipt.get("sha256") or base.get("sha256"),
        "parameters": receipt.get("parameters"),
        "license": license_,
        "license_from": where,
    }


def describe_data(run: Path, config: TrainConfig, state: Mapping[str, Any], license_: str | None) -> Facts:
    """Return what it was trained on, as noted at the start; of older runs, what the data set says today."""
    if (run / DATASET).is_file():
        facts = read_fields(run / DATASET, DatasetFacts)
    else:
        root = Path(config.dataset.root) if config.dataset.root is not None else run / "no data set is recorded"
        facts = describe_dataset(root, config.dataset.repo_id)
    used = state.get("data") or {}
    facts |= {
        "used_episodes": _count(used.get("train_episodes")),
        "held_out_episodes": _count(used.get("held_out")),
        "statistics": used.get("statistics"),
    }
    return facts if license_ is None else {**facts, "license": license_, "license_from": "publisher"}


def describe_method(config: TrainConfig, record: RunRecord, state: Mapping[str, Any]) -> Facts:
    """Return how it was trained."""
    counts = record.parameters
    trained = {part: numbers[0] for part, numbers in counts.items() if numbers[0]}
    lora = config.peft if config.uses_adapters else None
    return {
        "name": config.method,
        "lora": None if lora is None else {"r": lora.r, "alpha": lora.lora_alpha or lora.r, "dora": lora.use_dora},
        "trained": trained,
        "trained_total": sum(trained.values()) or None,
        "all_total": sum(a + b for a, b in counts.values()) or None,
        "preset": config.preset,
        "learning_rate": config.learning_rate,
        "warmup": (state.get("schedule") or {}).get("warmup_steps", config.warmup_steps),
        "final_rate": (state.get("schedule") or {}).get("end", config.decay_lr),
        "batch": state.get("samples_per_step") or config.samples_per_step(),
        "loss": config.loss,
        "ema": config.ema.decay if config.ema.enable else None,
        "precision": config.precision,
        "augment": config.augment,
        "seed": config.seed,
    }


def describe_sessions(history: Sequence[Mapping[str, Any]], step: int) -> list[Facts]:
    """Return when and where it was trained, up to the published step."""
    found = []
    for entry in history:
        if entry.get("first_step", 0) >= step:
            continue
        machine = entry.get("machine") or {}
        started, ended = entry.get("started"), entry.get("ended")
        gpu, processor = machine.get("gpu"), machine.get("processor")
        found.append(
            {
                "date": day(started),
                "ended": day(ended),
                "seconds": _seconds(started, ended),
                "hardware": gpu if gpu and str(entry.get("device", "")).startswith("cuda") else processor,
                "cores": None if gpu and str(entry.get("device", "")).startswith("cuda") else machine.get("cpu_cores"),
                "torch": machine.get("torch"),
                "pi05": entry.get("pi05"),
                "first_step": entry.get("first_step"),
                "last_step": entry.get("last_step"),
            }
        )
    return found


def describe_numbers(record: RunRecord, step: int, state: Mapping[str, Any]) -> Facts:
    """Return the last training loss up to the published step, and the held-out error at it."""
    logged = [entry for entry in record.of("train") if is_number(entry.get("step")) and entry["step"] <= step]
    held_out = [entry for entry in record.of("eval") if entry.get("step") == step]
    last, error = (entries[-1] if entries else {} for entries in (logged, held_out))
    return {
        "samples": state.get("samples", _number(last.get("samples"))),
        "epochs": _number(last.get("epochs")) if last.get("step") == step else None,
        "loss": _number(last.get("loss")),
        "loss_step": last.get("step"),
        "error": _number(error.get("action_error")),
        "baseline": _number(error.get("baseline_error")),
        "best_baseline": _number(error.get("best_baseline_error")),
        "frames": _number(error.get("frames")),
        "episodes": _number(error.get("episodes")),
        "dimensions": {
            name: {line: _number(values.get(line)) for line in ("error", "baseline")}
            for name, values in (error.get("dimensions") or {}).items()
        },
    }


def describe_evaluation(found: Mapping[str, Any], step: int) -> Facts:
    """Return one evaluation that lies in the run; it may be of another checkpoint than the published one."""
    success, environment = found["success"], found.get("environment") or {}
    config, policy = found.get("config") or {}, found.get("policy") or {}
    checkpoint = Path(str(policy.get("checkpoint") or policy.get("path") or "unknown"))
    of_a_run = checkpoint.parent.name == "checkpoints"  # not so: the base, for comparison
    return {
        "environment": "/".join(str(environment[key]) for key in ("name", "family") if environment.get(key)) or None,
        "successes": success.get("successes"),
        "trials": success.get("trials"),
        "rate": success.get("rate"),
        "low": success.get("wilson_low"),
        "high": success.get("wilson_high"),
        "exceptions": found.get("simulator_exceptions"),
        "swapped": bool(config.get("swap_instruction")),
        "seed": config.get("seed"),
        "date": day(found.get("date")),
        "step": policy.get("step") if of_a_run else None,
        "policy": None if of_a_run else checkpoint.name,
        "this": of_a_run and policy.get("step") == step,
        "hardware": (found.get("machine") or {}).get("gpu") or (found.get("machine") or {}).get("processor"),
        "env": environment.get("name"),
        "family": environment.get("family"),
    }


def _number(value: object) -> float | None:
    """Return a logged number; None for everything else that a line of `metrics.jsonl` may hold."""
    return value if is_number(value) else None


def hub_name(name: str | None) -> str | None:
    """Return a name that the hub could resolve, OWNER/NAME; None for other names."""
    return name if name is not None and "/" in name and valid_name(name) else None


def day(moment: object) -> str | None:
    """Return the date of an ISO 8601 time."""
    try:
        return datetime.fromisoformat(str(moment)).date().isoformat()
    except ValueError:
        return None


def _seconds(started: object, ended: object) -> float | None:
    try:
        passed = datetime.fromisoformat(str(ended)) - datetime.fromisoformat(str(started))
    except ValueError:
        return None
    return passed.total_seconds()


def _count(entries: object) -> int | None:
    return len(entries) if isinstance(entries, list) else None


def _samples(run: Path) -> list[dict[str, Any]]:
    """Return what the network was shown before the first step; nothing when that was not written."""
    try:
        value = parse_json(read_regular(run / "step0" / "prompts.json").decode("utf-8"))
    except (OSError, ValueError):
        return []
    return value if find_fault(list[Sample], value) is None else []
