"""`--cache_prefix`: the frozen prefix of every training frame is computed once; its keys and values are kept on disk.

Keys and values (the key/value cache of the prefix) are kept, not the vision tower's features. At full size the tower is
a sixth of the prefix's work, so its features would save a sixth. Keys and values save all of it, which is nine tenths
and more of an expert-only step. They are larger (18 layers of 2 x 256 numbers for each token: 10 MB a frame in
bfloat16), so the size is said first, and a disk that is too small is an error. The prompt holds the state, so there is
one prefix per frame.

For the same batch cached and computed prefixes are equal to the bit. In a run they differ by rounding (2e-6 of the loss
in float32), since a frame is read beside other frames than it was computed with. Libraries sum a product in an order
that depends on its number of rows, which is batch size times padded length. Vision and language stay on the device:
they compute the cache, and validate. Leaves out the file.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from rich.console import Console
from torch import Tensor

import pi05
from pi05.data.frame_cache import cache_directory, is_whole
from pi05.data.loader import TrainLoader
from pi05.data.prefix_cache import PrefixCache, file_bytes, write_prefixes
from pi05.model.gemma import KeyValue
from pi05.model.pi05 import Pi05
from pi05.temporary import alone
from pi05.terminal import say
from pi05.train.config import TrainConfig
from pi05.train.data import TrainingData, build_loader
from pi05.train.parallel.ranks import Ranks

PREFIX = ("vision.", "embedding.", "language.")
"""Parameters that the prefix follows from."""
SECONDS_BETWEEN_LINES = 10


def cache_prefixes(
    config: TrainConfig, data: TrainingData, model: Pi05, ranks: Ranks, console: Console
) -> PrefixCache | None:
    """Return the prefixes of all training frames, computed first where they are not on the disk; None if not wanted.

    Raises DataError when the disk is too small.
    """
    if not config.cache_prefix:
        return None
    size = config.micro_batch_size(ranks.world_size)
    return ranks.in_turns(lambda: _open(config, data, model, size, console))


def _open(config: TrainConfig, data: TrainingData, model: Pi05, batch_size: int, console: Console) -> PrefixCache:
    loader = build_loader(config, data)
    frames, sizes = loader.frame_indices, model.config
    length = len(data.processor.slots.keys) * sizes.patches_per_image + loader.longest_prompt
    shape = (len(frames), sizes.depth, 2, sizes.num_kv_heads, length, sizes.head_dim)
    folder = cache_directory(None if data.config.cache_dir is None else Path(data.config.cache_dir))
    # the frame cache lies there too, so the folder is there
    path = folder / f"{data.dataset.root.resolve().name}-prefix-{fingerprint(data, model, frames)}.npy"
    if is_whole(path, shape):
        say(console, f"prefix cache: {path}")
        return PrefixCache(path, frames, model.compute_dtype)
    size = file_bytes(shape, model.compute_dtype)
    with alone(path, lambda: say(console, f"prefix cache: waiting for another process, which is writing {path}")):
        if not is_whole(path, shape):
            say(
                console,
                f"prefix cache: computing {len(frames):,} frames to {path}, {_readable(size)} "
                f"({_readable(size // len(frames))} a frame); it may be deleted when training is done",
            )
            write_prefixes(path, shape, model.compute_dtype, _compute(model, loader, batch_size, console))
    return PrefixCache(path, frames, model.compute_dtype)


def fingerprint(data: TrainingData, model: Pi05, frames: np.ndarray) -> str:
    """Return a hash of weights, pictures, prompts and program: of all that the prefixes follow from."""
    found = hashlib.sha256()
    words = (pi05.__version__, model.config.to_dict(), str(model.compute_dtype), data.processor.to_dict())
    found.update(json.dumps([*words, data.frames.path.name], sort_keys=True, default=str).encode())
    found.update(data.dataset.fingerprint().encode())
    found.update(frames.tobytes())
    for name, value in sorted(model.named_parameters()):
        if name.startswith(PREFIX):
            found.update(f"{name} {value.dtype}".encode())
            found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


@torch.no_grad()
def _compute(
    model: Pi05, loader: TrainLoader, batch_size: int, console: Console
) -> Iterator[Shaped[Tensor, "B layers 2 K L H"]]:
    told, frames = time.monotonic(), loader.frame_indices
    for first in range(0, len(frames), batch_size):
        batch = loader.batch(frames[first : first + batch_size]).to(next(model.parameters()).device)
        cache, _ = model.read_prefix(batch)
        yield stack_prefix(cache).cpu()
        if time.monotonic() - told > SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            say(console, f"prefix cache: {first / len(frames):.0%}")


def stack_prefix(cache: list[KeyValue]) -> Shaped[Tensor, "B layers 2 K L H"]:
    """Return keys and values of all layers in one tensor, as the file and a batch hold them."""
    return torch.stack([torch.stack(pair, dim=1) for pair in cache], dim=1)


def _readable(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.2f} MB"
