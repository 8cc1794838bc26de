"""Batches for training: which frame comes when, and how frames become a `Batch`.

Everything is a pure function of the sample's number since the start of training: the order (a plain shuffle per epoch,
from seed and epoch) and the augmentation (from seed and sample number). So the position is all there is to save, a
resumed run continues exactly, and the number of workers changes nothing but speed.

What can be prepared is prepared once: prompts are tokenised for all frames at the start, which also proves that none is
too long; states and actions are arrays. Leaves out decoding (`frame_cache.py`), the transforms (`processor.py`),
padding (`collate.py`) and which episodes are held out (`split.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from pi05.data.augment import augment, draw_at
from pi05.data.collate import pad_prompts
from pi05.data.frame_cache import FrameSource
from pi05.data.prefix_cache import PrefixCache
from pi05.data.processor import Processor
from pi05.errors import DataError
from pi05.types import Batch

FEW_SHAPES = 8
"""Prompt lengths are multiples of it where a new length costs: memory of another size on a GPU, another compilation."""
_PROMPTS_AT_ONCE = 4096


@dataclass(frozen=True)
class BatchInfo:
    """Where a batch comes from, for logs and for naming the culprit of a bad loss."""

    epoch: int
    """Epoch of the first sample, from 0."""
    frame_indices: np.ndarray
    """Global frame numbers."""
    episodes: np.ndarray
    """Episode of each sample."""


class TrainLoader:
    """An endless stream of batches over the frames of some episodes; each epoch visits each frame once.

    A batch that reaches the end of an epoch is filled up from the next one, so all batches have the same size.
    `num_workers` threads prepare batches ahead; 0 prepares them when they are asked for. With `share=(rank, count)` the
    stream is dealt out, batch by batch, to `count` loaders of which this is number `rank`; the position counts the
    samples of all of them, so it does not depend on their number. With `pin` batches lie in page-locked memory, from
    which a GPU copies them while the program goes on. With `prefixes` they bring keys and values instead of pictures.
    """

    def __init__(
        self,
        dataset: Any,
        processor: Processor,
        frames: FrameSource,
        episodes: Sequence[int],
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        augment: bool = True,
        bucket: int = FEW_SHAPES,
        share: tuple[int, int] = (0, 1),
        pin: bool = False,
        prefixes: PrefixCache | None = None,
    ) -> None:
        self.share, self.pin, self.prefixes = share, pin, prefixes
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.augment = augment
        self._processor, self._frames = processor, frames
        _require_frames(frames, processor)
        chosen = [dataset.episodes[index] for index in episodes]
        if not sum(episode.length for episode in chosen):
            raise DataError("there is no frame to load", wanted="at least one episode", remedy="choose more episodes")
        self.frame_indices = np.concatenate([np.arange(e.start, e.start + e.length) for e in chosen])
        """Global numbers of the frames of this loader."""
        self._states, self._actions = dataset.states(), dataset.actions()
        self._episode, self._end = np.full((2, dataset.num_frames), -1)
        for episode in chosen:
            end = episode.start + episode.length
            self._episode[episode.start : end], self._end[episode.start : end] = episode.index, end
        self._prompts = _Prompts(dataset, processor, self.frame_indices, self._states)
        one_length = self._prompts.shortest == self._prompts.longest
        self.bucket = 1 if one_length else bucket
        """Prompt lengths are multiples of it; where all are the same, nothing is padded and no mask is needed."""
        self._sample = 0
        self._order = (-1, np.empty(0, np.int64))

    @property
    def samples_per_epoch(self) -> int:
        """Frames of this loader."""
        return len(self.frame_indices)

    @property
    def _dealt(self) -> int:
        """Samples of one batch of every loader."""
        return self.batch_size * self.share[1]

    def state_dict(self) -> dict[str, int]:
        """Return the position: the epoch and how many of its samples have been handed out."""
        epoch, cursor = divmod(self._sample, self.samples_per_epoch)
        return {"epoch": epoch, "cursor": cursor, "samples_per_epoch": self.samples_per_epoch, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position. Raises DataError when it belongs to other frames or another seed."""
        own = self.state_dict()
        for key, name in (("samples_per_epoch", "number of training frames"), ("seed", "seed")):
            if state[key] != own[key]:
                raise DataError(
                    f"the run cannot be continued: the {name} has changed",
                    wanted=str(state[key]),
                    found=str(own[key]),
                    remedy="resume with the data set, the episodes and the seed of the run, or start a new one",
                )
        self._sample = state["epoch"] * self.samples_per_epoch + state["cursor"]

    def __iter__(self) -> Iterator[tuple[Batch, BatchInfo]]:
        """Yield batches for ever, from the current position on. The position counts batches handed out."""
        if self.num_workers == 0:
            while True:
                first = self._sample
                self._sample += self._dealt
                yield self._at(first)
        yield from self._ahead()

    def _ahead(self) -> Iterator[tuple[Batch, BatchInfo]]:
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="pi05-loader")
        waiting: deque[Future[tuple[Batch, BatchInfo]]] = deque()
        following = self._sample
        try:
            while True:
                while len(waiting) < self.num_workers + 1:
                    waiting.append(pool.submit(self._at, following))
                    following += self._dealt
                result = waiting.popleft().result()
                self._sample += self._dealt
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _at(self, first: int) -> tuple[Batch, BatchInfo]:
        """Return this loader's batch of those that are dealt out from this number of a sample on."""
        first += self.share[0] * self.batch_size
        samples = np.arange(first, first + self.batch_size)
        indices = self._frames_of(samples)
        info = BatchInfo(first // self.samples_per_epoch, indices, self._episode[indices])
        batch = self._make(indices, samples if self.augment else None, self.prefixes)
        return batch.pin_memory() if self.pin else batch, info

    def _frames_of(self, samples: np.ndarray) -> np.ndarray:
        epochs, cursors = np.divmod(samples, self.samples_per_epoch)
        indices = np.empty(len(samples), np.int64)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            indices[inside] = self._epoch_order(int(epoch))[cursors[inside]]
        return indices

    def _epoch_order(self, epoch: int) -> np.ndarray:
        known, order = self._order
        if known != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.frame_indices)
            self._order = (epoch, order)  # one assignment: other threads see the old pair or the new one
        return order

    def batch(self, frame_indices: Sequence[int] | np.ndarray) -> Batch:
        """Return the batch of these frames (global numbers, of this loader's episodes), without augmentation."""
        indices = np.asarray(frame_indices, np.int64)
        if (self._episode[indices] < 0).any():
            raise ValueError("a frame outside of this loader's episodes was asked for")
        return self._make(indices, None)

    def chunks(self, frame_indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return raw action chunks [B, A, n] and which steps are real [B, A]; past the end the last action repeats."""
        indices = np.asarray(frame_indices, np.int64)
        steps = indices[:, None] + np.arange(self._processor.horizon)
        ends = self._end[indices][:, None]
        return self._actions[np.minimum(steps, ends - 1)], steps < ends

    def states(self, frame_indices: Sequence[int] | np.ndarray) -> Float[np.ndarray, "B S"]:
        """Return the raw states of frames."""
        return self._states[np.asarray(frame_indices, np.int64)]

    @property
    def prompt_lengths(self) -> tuple[int, int]:
        """Tokens of the shortest and of the longest prompt."""
        return self._prompts.shortest, self._prompts.longest

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt, rounded up whatever the bucket is: files of prefixes have this length."""
        return max(1, -(-self._prompts.longest // FEW_SHAPES)) * FEW_SHAPES

    def _make(self, indices: np.ndarray, samples: np.ndarray | None, prefixes: PrefixCache | None = None) -> Batch:
        chunks, valid = self.chunks(indices)
        tokens, token_mask = pad_prompts(self._prompts.of(indices), self.bucket)
        side, image_tokens = self._frames.image_size, 0
        if prefixes is None:
            images = torch.from_numpy(np.stack([self._frames.images(int(index)) for index in indices]))
        else:
            images = torch.empty((len(indices), 0, side, side, 3), dtype=torch.uint8)
            image_tokens = prefixes.longest - self.longest_prompt
        if samples is not None and prefixes is None:
            wrist = self._processor.slots.wrist
            images = augment(images, wrist, draw_at(self.seed, samples, wrist))
        return Batch(
            images=images,
            image_mask=None,
            tokens=tokens,
            token_mask=None if bool(token_mask.all()) else token_mask,
            counted_tokens=None if bool(token_mask.all()) else int(token_mask.sum()),
            actions=torch.from_numpy(self._processor.encode_actions(chunks, self._states[indices])),
            action_mask=torch.from_numpy(valid),
            trimmed=True,  # only cameras in use are loaded
            prefix=None if prefixes is None else prefixes.read(indices, image_tokens + tokens.shape[1]),
        )


class _Prompts:
    """Token ids of many frames in one array; a prompt depends on the frame's task and state only."""

    def __init__(self, dataset: Any, processor: Processor, indices: np.ndarray, states: np.ndarray) -> None:
        self._row = np.full(dataset.num_frames, -1)
        self._row[indices] = np.arange(len(indices))
        pieces: list[np.ndarray] = []
        lengths: list[int] = []
        for first in range(0, len(indices), _PROMPTS_AT_ONCE):
            part = indices[first : first + _PROMPTS_AT_ONCE]
            ids = processor.encode_prompts([dataset.task(int(index)) for index in part], states[part])
            lengths += [len(tokens) for tokens in ids]
            pieces.append(np.concatenate([np.array(tokens, np.int32) for tokens in ids]))
        self._ids = np.concatenate(pieces)
        self._bounds = np.concatenate([[0], np.cumsum(lengths)])
        self.longest, self.shortest = max(lengths), min(lengths)

    def of(self, indices: np.ndarray) -> list[np.ndarray]:
        rows = self._row[indices]
        return [self._ids[self._bounds[row] : self._bounds[row + 1]] for row in rows]


def _require_frames(frames: FrameSource, processor: Processor) -> None:
    found = (frames.camera_keys, frames.image_size)
    wanted = (processor.slots.keys, processor.image_size)
    if found != wanted:
        raise ValueError(f"frames of {found[0]} at {found[1]} px were given, the processor wants {wanted}")
