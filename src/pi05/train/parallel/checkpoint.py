"""Checkpoints of a network that is split over processes, and resuming on another number of them.

The folder is that of one process: whole weights in `model.safetensors` (or the adapter's files), gathered to rank 0 and
written one tensor at a time. Only what resume alone needs stays in parts (`parts.py`), each process writing its own:
moments, and under EMA the raw weights. Any number of
processes reads either form. Rank 0 gives the folder its name when all of it is on disk (`checkpoint/store.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from pi05.checkpoint import store
from pi05.checkpoint.safetensors_writer import LazyTensor, in_order, write_safetensors
from pi05.errors import CheckpointError
from pi05.model.lora import add_lora
from pi05.model.pi05 import Pi05
from pi05.train.lora import LoraPlan, read_trained, write_trained
from pi05.train.parallel.parts import read_parts, write_part
from pi05.train.parallel.parts_of_0_1 import is_of_0_1, read_parts_of_0_1
from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.shards import fill, own_part, whole
from pi05.train.parameters import moments_in_use, require_fits, require_names
from pi05.train.step import TrainState

PARTS = "parts"
OPTIMIZER, RAW = "optimizer/", "raw/"


def has_parts(folder: Path) -> bool:
    """Tell whether a checkpoint's moments lie in parts."""
    return (folder / store.TRAINING / PARTS).is_dir()


def write_whole(folder: Path, tensors: Mapping[str, Tensor], writes: bool) -> None:
    """Write model.safetensors on the rank that `writes`; the others give their parts, in the same order."""
    gather = {name: LazyTensor(tuple(value.shape), value.dtype, _later(value)) for name, value in tensors.items()}
    if writes:
        write_safetensors(folder / store.WEIGHTS, gather)
        return
    for name in in_order(gather):
        gather[name].make()


def _later(value: Tensor) -> Any:
    return lambda: whole(value)


def write_adapter_files(
    folder: Path, values: Mapping[str, Tensor], model: Pi05, plan: LoraPlan, base: Mapping[str, Any], writes: bool
) -> None:
    """Write the adapter of a split network on the rank that `writes`; the others give their parts."""
    gathered = {name: whole(value).cpu() for name, value in values.items()}
    if not writes:
        return
    with torch.device("meta"):
        view = Pi05(model.config)
        add_lora(view, plan.specs)
    for name, value in gathered.items():
        module, _, last = name.rpartition(".")
        setattr(view.get_submodule(module), last, nn.Parameter(value, requires_grad=False))
    write_trained(folder, view, plan, base)


def write_parts(training: Path, state: TrainState, raw: Mapping[str, Tensor] | None) -> None:
    """Write moments and raw weights, each process its own; rank 0 has made the folder `training`.

    Raises OSError, the same one in every process, when the disk of one of them is full.
    """
    tensors = {OPTIMIZER + name: value for name, value in state.optimizer.tensors().items()}
    tensors |= {RAW + name: value for name, value in (raw or {}).items()}
    ranks = state.parallel.ranks
    if ranks.first:
        (training / PARTS).mkdir()
    ranks.meet()
    write_part(training / PARTS, tensors, ranks)


def save_in_parts(
    folder: Path, checkpoint: store.Checkpoint, state: TrainState, ranks: Ranks, lora: LoraPlan | None
) -> None:
    """Write the checkpoint of a split network; every process calls this.

    `checkpoint` has the split tensors; rank 0 replaces how they are written, the others take part in that.
    """
    if checkpoint.training is None:
        raise ValueError("a run's checkpoint has a training state")
    raw, training = checkpoint.training.raw_weights, checkpoint.training
    writes = ranks.first

    def weights(partial: Path) -> None:
        if lora is None:
            write_whole(partial, checkpoint.weights, writes)
        else:
            base = checkpoint.config["base"]
            write_adapter_files(partial, checkpoint.weights, cast(Pi05, state.model), lora, base, writes)

    if writes:
        store.save_checkpoint(
            folder,
            store.Checkpoint(
                config=checkpoint.config,
                weights=checkpoint.weights,
                adapter=weights,
                tokenizer_name=checkpoint.tokenizer_name,
                tokenizer_bytes=checkpoint.tokenizer_bytes,
                training=store.TrainingFiles(
                    state=training.state,
                    optimizer=training.optimizer,
                    raw_weights=raw,
                    write=lambda path: write_parts(path, state, raw),
                ),
            ),
        )
    else:
        partial = store.partial_folder(folder)
        weights(partial)
        try:
            write_parts(partial / store.TRAINING, state, raw)
        except OSError as error:
            raise store.unwritable(folder, checkpoint, error) from error


def restore_in_parts(folder: Path, state: TrainState, names: Mapping[str, Tensor], adapter: bool) -> int:
    """Put weights, average and moments of a checkpoint into a state; every process calls this and reads its part.

    The checkpoint may be whole or in parts, and so may the state. Returns how many moments were left out, since nothing
    reads their parameters.
    """
    training = folder / store.TRAINING
    parts = _read_any_parts(folder, names) if has_parts(folder) else {}
    saved = read_trained(folder, cast(Pi05, state.model)) if adapter else _Rows(folder / store.WEIGHTS, names)
    require_names(names, saved)
    raw: Mapping[str, Tensor] = {name[len(RAW) :]: value for name, value in parts.items() if name.startswith(RAW)}
    if (training / store.RAW_WEIGHTS).is_file():
        raw = _Rows(training / store.RAW_WEIGHTS, names)
    for name, parameter in names.items():
        value = raw[name] if name in raw else saved[name]
        require_fits(name, value, parameter)
        _put(parameter, value)
    if state.ema is not None:
        for name, average in state.ema.tensors().items():
            _put(average, saved[name])
    moments: Mapping[str, Tensor] = {
        name[len(OPTIMIZER) :]: value for name, value in parts.items() if name.startswith(OPTIMIZER)
    }
    if not parts:
        moments = _Rows(training / store.OPTIMIZER, names)
    used = moments_in_use(cast(Pi05, state.model), moments)
    state.optimizer.load_tensors({name: _like(value, name, names) for name, value in used.items()})
    return len(moments) - len(used)


def _read_any_parts(folder: Path, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read what lies in parts: split as the parameters are, or whole where they are whole."""
    parts = folder / store.TRAINING / PARTS
    return read_parts_of_0_1(parts, names) if is_of_0_1(parts) else read_parts(parts, names)


class _Rows(Mapping[str, Tensor]):
    """A .safetensors file, of whose tensors each process reads the rows that it holds."""

    def __init__(self, path: Path, like: Mapping[str, Tensor]) -> None:
        try:
            self._file = safetensors.safe_open(path, framework="pt")
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(
                f"{path} cannot be read", found=str(error), remedy="use another checkpoint of the run"
            ) from error
        self._names = list(self._file.keys())
        self._like = like

    def __getitem__(self, label: str) -> Tensor:
        like = self._like.get(label.rpartition("/")[2])
        entry = self._file.get_slice(label)
        if not isinstance(like, DTensor) or list(like.shape) != entry.get_shape():
            return self._file.get_tensor(label)
        shape, offset = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)
        rows = entry[offset[0] : offset[0] + shape[0]] if shape[0] else torch.empty(0, *shape[1:])
        local = rows.to(own_part(like).device)
        return DTensor.from_local(
            local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@torch.no_grad()
def _put(target: Tensor, value: Tensor) -> None:
    if isinstance(value, DTensor):
        own_part(target.detach()).copy_(own_part(value))
    else:
        fill(target.detach(), value)


def _like(value: Tensor, label: str, names: Mapping[str, Tensor]) -> Tensor:
    """Return a moment split as its parameter is."""
    parameter = names.get(label.rpartition("/")[2])
    if isinstance(parameter, DTensor) and not isinstance(value, DTensor) and value.shape == parameter.shape:
        moment = torch.empty_like(parameter.detach(), dtype=value.dtype)
        fill(moment, value)
        return moment
    return value
