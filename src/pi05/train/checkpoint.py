"""From the state of a training to a checkpoint of its run, and back.

Leaves out how the files are written (`checkpoint/store.py`, or `parallel/checkpoint.py` for a network in parts) and
which checkpoint a run continues from (`resume.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import pi05
from pi05.checkpoint import run_folder, store
from pi05.data.processor import Processor
from pi05.model.pi05 import Pi05
from pi05.train.lora import LoraPlan, parameters_of_plan, read_trained, write_trained
from pi05.train.parallel import checkpoint as parts
from pi05.train.parameters import moments_in_use, require_fits, require_names
from pi05.train.resume import OpenRun
from pi05.train.soundness import require_sound_after_reading, require_sound_before_saving
from pi05.train.step import TrainState


def save_state(
    run: OpenRun,
    state: TrainState,
    *,
    config: Mapping[str, Any],
    processor: Processor,
    extra: Mapping[str, Any],
    keep: int,
    best_step: int | None,
    lora: LoraPlan | None = None,
) -> Path:
    """Save a checkpoint, point `last` at it and `best` at that of the best step, and delete those no longer kept.

    With LoRA it holds what was trained and no base weights; those lie in the run (`checkpoint/peft/kept_base.py`).
    Raises TrainingError where the state is not finite.
    """
    require_sound_before_saving(state)
    parameters = {name: value.detach() for name, value in _saved(state, lora).items()}
    average = {} if state.ema is None else state.ema.tensors()
    tokenizer = processor.tokenizer
    checkpoint = store.Checkpoint(
        config={**config, "step": state.step},
        weights={**parameters, **average},
        adapter=None
        if lora is None
        else partial(write_trained, model=cast(Pi05, state.model), plan=lora, base=config["base"]),
        tokenizer_name=tokenizer.file_name,
        tokenizer_bytes=tokenizer.file_bytes(),
        training=store.TrainingFiles(
            state=describe_state(state, extra),
            optimizer=state.optimizer.tensors(),
            raw_weights={name: parameters[name] for name in average} if average else None,
        ),
    )
    folder, ranks = run_folder.checkpoint_folder(run.root, state.step), state.parallel.ranks
    if state.parallel.sharded:
        parts.save_in_parts(folder, checkpoint, state, ranks, lora)
    elif ranks.first:
        with nullcontext() if state.ema is None else state.ema.in_place():
            store.save_checkpoint(folder, checkpoint)
    if ranks.first:
        run_folder.point(run.root, run_folder.LAST, folder)
        run_folder.point_best(run.root, best_step)
        run_folder.keep_last(run.root, keep)
    ranks.meet()
    return folder


def describe_state(state: TrainState, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a training state that is plain data."""
    return {
        "step": state.step,
        "seed": state.seed,
        "rng": "noise, flow times, data order and augmentation follow from seed and position",
        "loader": dict(state.loader),
        "schedule": state.optimizer.schedule.to_dict(),
        "ema": state.ema is not None,
        "moments": len(state.optimizer.tensors()),
        "world_size": state.parallel.ranks.world_size,
        "versions": {"pi05": pi05.__version__, "torch": torch.__version__},
        **extra,
    }


def _saved(state: TrainState, lora: LoraPlan | None) -> dict[str, nn.Parameter]:
    """Return the parameters that a checkpoint holds: all, or with LoRA those that the plan names."""
    return dict(state.model.named_parameters()) if lora is None else parameters_of_plan(state.model, lora)


def restore_state(run: OpenRun, state: TrainState, lora: LoraPlan | None = None) -> None:
    """Put weights, average, optimizer and positions of the checkpoint into a training state.

    Raises CheckpointError for what no run has saved: other names or shapes, values that are not finite, lost moments.
    """
    if run.folder is None:
        raise ValueError("there is no checkpoint to restore")
    unused = _restore(run.folder, run, state, lora)
    moments = run.saved.get("moments")
    require_sound_after_reading(state, None if moments is None else moments - unused, str(run.folder))


def _restore(folder: Path, run: OpenRun, state: TrainState, lora: LoraPlan | None) -> int:
    """Return how many moments of the checkpoint are those of parameters that nothing reads."""
    adapter = store.is_adapter(folder)
    names: Mapping[str, Tensor] = _saved(state, lora)
    state.step, state.loader = int(run.saved["step"]), dict(run.saved["loader"])
    if state.parallel.sharded or parts.has_parts(folder):
        return parts.restore_in_parts(folder, state, names, adapter)
    checkpoint = store.load_checkpoint(folder, training=True)
    if checkpoint.training is None:
        raise ValueError("the checkpoint was read without its training state")
    saved = read_trained(folder, cast(Pi05, state.model)) if adapter else checkpoint.weights
    weights = {**saved, **(checkpoint.training.raw_weights or {})}
    require_names(names, weights)
    with torch.no_grad():
        for name, parameter in names.items():
            require_fits(name, weights[name], parameter)
            parameter.copy_(weights[name])
    if state.ema is not None:
        state.ema.load_tensors(saved)
    moments = moments_in_use(cast(Pi05, state.model), checkpoint.training.optimizer)
    state.optimizer.load_tensors(moments)
    return len(checkpoint.training.optimizer) - len(moments)
