"""The loader: each frame once per epoch, exact resume, the same for any number of workers, right contents."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import CAMERAS, TASKS, FakeDataset, prompt_words, read_frame_number, write_dataset, write_word_tokenizer

from pi05.data.augment import augment, draw_at
from pi05.data.cameras import assign_slots
from pi05.data.frame_cache import FrameCache
from pi05.data.lerobot.reader import Dataset
from pi05.data.loader import BatchInfo, TrainLoader
from pi05.data.processor import Processor
from pi05.data.statistics import compute_statistics
from pi05.data.tokenizer import Tokenizer
from pi05.errors import DataError
from pi05.types import Batch

SIZE, HORIZON = 48, 4
EPISODES = [0, 2, 3]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> FakeDataset:
    return write_dataset(tmp_path_factory.mktemp("data") / "set", "v3.0", (12, 9, 7, 1), height=48, width=48)


@pytest.fixture(scope="module")
def dataset(fake: FakeDataset) -> Dataset:
    return Dataset(fake.root)


@pytest.fixture(scope="module")
def processor(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Processor:
    statistics = compute_statistics(dataset, EPISODES, HORIZON, np.array([True, False, True]))
    words = tmp_path_factory.mktemp("words") / "tokenizer.json"
    return Processor(
        slots=assign_slots(dataset.camera_keys),
        state_stats=statistics.state,
        action_stats=statistics.action,
        tokenizer=Tokenizer.load(write_word_tokenizer(words, prompt_words())),
        image_size=SIZE,
        action_dim=8,
        horizon=HORIZON,
        max_prompt_tokens=32,
        fps=dataset.fps,
        relative_mask=(True, False, True),
    )


@pytest.fixture(scope="module")
def frames(dataset: Dataset, processor: Processor, tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    return FrameCache.build(dataset, processor.slots.keys, SIZE, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def parts(dataset: Dataset, processor: Processor, frames: FrameCache) -> tuple[Dataset, Processor, FrameCache]:
    return dataset, processor, frames


Parts = tuple[Dataset, Processor, FrameCache]


def take(loader: TrainLoader, count: int) -> list[tuple[Batch, BatchInfo]]:
    """Return the next batches, and end the iterator as a trainer that stops does."""
    iterator = iter(loader)
    batches = list(islice(iterator, count))
    iterator.close()
    return batches


def assert_same(first: list[tuple[Batch, BatchInfo]], second: list[tuple[Batch, BatchInfo]]) -> None:
    assert len(first) == len(second)
    for (batch, info), (other, other_info) in zip(first, second, strict=True):
        assert info.epoch == other_info.epoch
        np.testing.assert_array_equal(info.frame_indices, other_info.frame_indices)
        for name in ("images", "tokens", "token_mask", "actions", "action_mask"):
            mine, theirs = getattr(batch, name), getattr(other, name)
            assert (mine is None) == (theirs is None)
            assert mine is None or torch.equal(mine, theirs), name


def test_each_epoch_visits_each_frame_once(parts: Parts) -> None:
    loader = TrainLoader(*parts, EPISODES, 4, seed=0)
    assert loader.samples_per_epoch == 20
    batches = take(loader, 15)
    visited = np.concatenate([info.frame_indices for _, info in batches]).reshape(3, 20)
    expected = [*range(12), *range(21, 28), 28]
    for row in visited:
        assert sorted(row.tolist()) == expected
    assert len({tuple(row) for row in visited.tolist()}) == 3, "each epoch has its own order"
    assert [info.epoch for _, info in batches] == [0] * 5 + [1] * 5 + [2] * 5
    for _, info in batches:
        assert info.episodes.tolist() == [0 if i < 12 else 2 if i < 28 else 3 for i in info.frame_indices]


def test_a_batch_may_span_epochs(parts: Parts) -> None:
    batches = take(TrainLoader(*parts, EPISODES, 8, seed=0), 5)
    visited = np.concatenate([info.frame_indices for _, info in batches]).reshape(2, 20)
    assert [len(info.frame_indices) for _, info in batches] == [8] * 5
    assert all(len(set(row)) == 20 for row in visited.tolist())
    assert [info.epoch for _, info in batches] == [0, 0, 0, 1, 1]


def test_a_batch_larger_than_an_epoch(parts: Parts) -> None:
    (_, info), *_ = take(TrainLoader(*parts, [3, 2], 20, seed=0), 1)
    counts = np.unique(info.frame_indices, return_counts=True)[1]
    assert sorted(counts.tolist()) == [2] * 4 + [3] * 4


def test_the_order_comes_from_the_seed(parts: Parts) -> None:
    first, again, other = (
        np.concatenate([info.frame_indices for _, info in take(TrainLoader(*parts, EPISODES, 5, seed=seed), 4)])
        for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("stop", [1, 3, 4, 7])
@pytest.mark.parametrize("workers", [0, 3])
def test_resume_continues_exactly(parts: Parts, stop: int, workers: int) -> None:
    whole = take(TrainLoader(*parts, EPISODES, 6, seed=3), 10)
    first = TrainLoader(*parts, EPISODES, 6, seed=3, num_workers=workers)
    begun = take(first, stop)
    second = TrainLoader(*parts, EPISODES, 6, seed=3, num_workers=workers)
    second.load_state_dict(first.state_dict())
    assert_same(whole, begun + take(second, 10 - stop))


def test_an_iterator_may_be_left_and_taken_up_again(parts: Parts) -> None:
    whole = take(TrainLoader(*parts, EPISODES, 6, seed=3), 6)
    for workers in (0, 2):
        loader = TrainLoader(*parts, EPISODES, 6, seed=3, num_workers=workers)
        assert_same(whole, take(loader, 2) + take(loader, 4))


@pytest.mark.parametrize("augmented", [False, True])
def test_any_number_of_workers_gives_the_same(parts: Parts, augmented: bool) -> None:
    alone = take(TrainLoader(*parts, EPISODES, 7, seed=5, augment=augmented), 9)
    for workers in (1, 2, 4):
        assert_same(alone, take(TrainLoader(*parts, EPISODES, 7, 5, num_workers=workers, augment=augmented), 9))


def test_an_error_in_a_worker_reaches_the_trainer(parts: Parts, dataset: Dataset, processor: Processor) -> None:
    class Broken:
        camera_keys, image_size = processor.slots.keys, SIZE

        def images(self, index: int) -> np.ndarray:
            raise OSError("no such picture")

    loader = TrainLoader(dataset, processor, Broken(), EPISODES, 4, seed=0, num_workers=2)
    with pytest.raises(OSError, match="no such picture"):
        take(loader, 1)


def test_a_position_of_another_run_is_refused(parts: Parts) -> None:
    state = TrainLoader(*parts, EPISODES, 4, seed=0).state_dict()
    with pytest.raises(DataError, match="number of training frames"):
        TrainLoader(*parts, [0, 1], 4, seed=0).load_state_dict(state)
    with pytest.raises(DataError, match="the seed has changed"):
        TrainLoader(*parts, EPISODES, 4, seed=1).load_state_dict(state)


def test_what_is_in_a_batch(parts: Parts, fake: FakeDataset) -> None:
    """Pictures, prompt, actions and mask of every frame, against the data set's own truth and the processor."""
    dataset, processor, frames = parts
    loader = TrainLoader(dataset, processor, frames, EPISODES, 20, seed=0, augment=False)
    ((batch, info),) = take(loader, 1)
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (20, 2, SIZE, SIZE, 3)
    assert batch.trimmed
    assert batch.image_mask is None
    for row, index in enumerate(info.frame_indices.tolist()):
        assert [read_frame_number(image.numpy()) for image in batch.images[row]] == [(index, 0), (index, 1)]
        raw = dict(zip(CAMERAS, batch.images[row].numpy(), strict=True))
        state = fake.states[index]
        one = processor.encode({**raw, "observation.state": state, "task": fake.task_of_frame[index]})
        tokens = batch.tokens[row] if batch.token_mask is None else batch.tokens[row][batch.token_mask[row]]
        assert tokens.tolist() == one.tokens.tolist()
        chunk, is_pad = dataset.action_chunk(index, HORIZON)
        np.testing.assert_array_equal(batch.actions[row], processor.encode_actions(chunk, state))
        np.testing.assert_array_equal(batch.action_mask[row], ~is_pad)
    assert not bool(batch.action_mask.all())


def test_augmentation_is_that_of_the_sample_number(parts: Parts) -> None:
    loader = TrainLoader(*parts, EPISODES, 6, seed=9)
    batches = take(loader, 5)
    for number, (batch, info) in enumerate(batches):
        wrist = [False, True]
        plain = loader.batch(info.frame_indices)
        assert plain.images.dtype == torch.uint8
        draws = draw_at(9, np.arange(6 * number, 6 * number + 6), wrist)
        assert torch.equal(batch.images, augment(plain.images, wrist, draws))
        assert torch.equal(batch.actions, plain.actions)


def test_a_batch_of_chosen_frames(parts: Parts) -> None:
    loader = TrainLoader(*parts, [1, 2], 4, seed=0)
    batch = loader.batch([20, 13, 13])
    assert [read_frame_number(image.numpy())[0] for image in batch.images[:, 0]] == [20, 13, 13]
    assert batch.action_mask.sum(1).tolist() == [1, HORIZON, HORIZON]
    chunks, valid = loader.chunks([20])
    np.testing.assert_array_equal(chunks[0], np.tile(loader.chunks([20])[0][0, :1], (HORIZON, 1)))
    assert valid.tolist() == [[True] + [False] * (HORIZON - 1)]
    with pytest.raises(ValueError, match="outside"):
        loader.batch([0])


def test_a_too_long_prompt_is_found_before_training(parts: Parts) -> None:
    dataset, processor, frames = parts
    short = dataclasses.replace(processor, max_prompt_tokens=12)
    with pytest.raises(DataError, match="too long"):
        TrainLoader(dataset, short, frames, EPISODES, 4, seed=0)


def test_pictures_of_other_cameras_are_refused(dataset: Dataset, processor: Processor, tmp_path: Path) -> None:
    swapped = FrameCache.build(dataset, CAMERAS[::-1], SIZE, tmp_path)
    with pytest.raises(ValueError, match="processor wants"):
        TrainLoader(dataset, processor, swapped, EPISODES, 4, seed=0)


def test_all_tasks_are_known() -> None:
    assert all(set(task.split()) <= set(prompt_words()) for task in TASKS)


@pytest.mark.parametrize("workers", [0, 2])
def test_several_loaders_deal_out_the_stream_of_one(parts: Parts, workers: int) -> None:
    whole = take(TrainLoader(*parts, EPISODES, 6, seed=3), 8)
    loaders = [TrainLoader(*parts, EPISODES, 3, seed=3, num_workers=workers, share=(rank, 2)) for rank in range(2)]
    shares = [take(loader, 8) for loader in loaders]
    for (batch, info), *both in zip(whole, *shares, strict=True):
        dealt = np.concatenate([each.frame_indices for _, each in both])
        assert (dealt == info.frame_indices).all()
        images = torch.cat([each.images for each, _ in both])
        assert torch.equal(images, batch.images), "augmentation follows the sample, not the loader"
    assert loaders[0].state_dict() == loaders[1].state_dict()


@pytest.mark.parametrize("bucket", [1, 8])
def test_prompts_are_padded_to_the_longest_or_to_few_lengths(
    dataset: Dataset, processor: Processor, frames: FrameCache, bucket: int
) -> None:
    loader = TrainLoader(dataset, processor, frames, EPISODES, batch_size=3, seed=0, bucket=bucket)
    for batch, info in islice(loader, 8):
        tasks = [dataset.task(int(frame)) for frame in info.frame_indices]
        lengths = map(len, processor.encode_prompts(tasks, loader.states(info.frame_indices)))
        assert batch.tokens.shape[1] == -(-max(lengths) // bucket) * bucket
        assert batch.counted_tokens == (None if batch.token_mask is None else int(batch.token_mask.sum()))
    assert loader.longest_prompt % 8 == 0, "files of prefixes have one length for every bucket"


def test_prompts_of_one_length_need_no_padding_and_no_mask(
    dataset: Dataset, processor: Processor, frames: FrameCache
) -> None:
    alike = dataclasses.replace(processor, prompt_format="none")
    episodes = [e.index for e in dataset.episodes if dataset.task(e.start) == dataset.task(0)]
    (length,) = {len(tokens) for tokens in alike.encode_prompts([dataset.task(0)], dataset.states()[:1])}
    batch, _ = next(iter(TrainLoader(dataset, alike, frames, episodes, batch_size=2, seed=0, bucket=8)))
    assert length % 8
    assert batch.tokens.shape[1] == length
    assert batch.token_mask is None
