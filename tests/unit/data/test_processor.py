"""The processor: round trips, golden prompts through a tokenizer, storage, and every error it must give."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import prompt_words, write_tokenizer, write_word_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pi05.data.cameras import CameraSlots
from pi05.data.collate import collate
from pi05.data.processor import Processor
from pi05.data.statistics import DimStats
from pi05.data.tokenizer import Tokenizer
from pi05.errors import DataError

SCENE, WRIST = "observation.images.top", "observation.images.wrist"
FLOAT32 = 2e-5
"""Absolute, for values of a few units that pass through float32."""


def stats(dim: int, seed: int = 0) -> DimStats:
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(size=dim), rng.uniform(0.5, 2, size=dim)
    low, high = mean - 2 * std, mean + 2 * std
    return DimStats(mean=mean, std=std, min=low - 1, max=high + 1, q01=low, q99=high, count=100)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("words")
    return Tokenizer.load(write_word_tokenizer(folder / "tokenizer.json", prompt_words()))


@pytest.fixture(scope="module")
def processor(tokenizer: Tokenizer) -> Processor:
    return Processor(
        slots=CameraSlots(scene=SCENE, left_wrist=WRIST, dropped=("observation.images.phone",)),
        state_stats=stats(4),
        action_stats=stats(3, seed=1),
        tokenizer=tokenizer,
        image_size=24,
        action_dim=8,
        horizon=5,
        max_prompt_tokens=24,
        fps=10.0,
        action_names=("x", "y", "gripper"),
        state_names=("a", "b", "c", "d"),
    )


def observation(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    values = {
        SCENE: rng.integers(0, 256, (30, 40, 3)).astype(np.uint8),
        WRIST: rng.integers(0, 256, (24, 24, 3)).astype(np.uint8),
        "observation.state": np.zeros(4, np.float32),
        "task": "put the red_block",
    }
    return {key: value for key, value in (values | changes).items() if value is not None}


def test_an_observation_has_all_slots(processor: Processor) -> None:
    given_one = observation()
    encoded = processor.encode(given_one)
    assert encoded.images.shape == (3, 24, 24, 3)
    assert encoded.image_mask.tolist() == [True, True, False]
    assert (encoded.images[1] == given_one[WRIST]).all(), "an image of the right size stays as it is"
    assert not encoded.images[0, :3].any(), "40 x 30 is padded above"
    assert encoded.images[0, 3:21].any()
    assert not encoded.images[2].any()


def test_the_prompt_holds_the_normalised_state(processor: Processor) -> None:
    low, high = processor.state_stats.q01, processor.state_stats.q99
    state = np.array([low[0], (low[1] + high[1]) / 2, high[2] + 1, low[3] - 1], np.float32)
    text = processor.tokenizer.decode(processor.encode(observation(**{"observation.state": state})).tokens.tolist())
    bins = text.split("State : ")[1].split(" ;")[0].replace("- 1", "-1").split()
    assert text.startswith("Task : put the red block , State : ")
    assert text.endswith("; Action :")
    assert abs(int(bins[0])) <= 1
    assert int(bins[1]) in (127, 128)
    assert bins[2:] == ["255", "-1"]


@pytest.mark.parametrize("text", [b"put the red block", np.str_("put the red block")])
def test_the_task_may_be_bytes_or_a_numpy_string(processor: Processor, text: Any) -> None:
    assert (processor.encode(observation(task=text)).tokens == processor.encode(observation()).tokens).all()


def test_prompt_without_state(processor: Processor, tmp_path: Path) -> None:
    """A task alone ends with the line break's own token, even where the vocabulary could merge it."""
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path / "tokenizer.json"))
    bare = dataclasses.replace(processor, prompt_format="none", tokenizer=tokenizer)
    encode = tokenizer.encode
    assert encode("\n", add_bos=False)
    encoded = bare.encode(observation(**{"observation.state": None}))
    assert encoded.tokens.tolist() == encode("put the red block") + encode("\n", add_bos=False)
    with_state = bare.encode(observation())
    assert (with_state.tokens == encoded.tokens).all()


def test_old_lerobot_prompts_have_32_numbers(processor: Processor) -> None:
    with pytest.raises(DataError, match="45 tokens"):
        dataclasses.replace(processor, prompt_format="state32", max_prompt_tokens=44).encode(observation())
    old = dataclasses.replace(processor, prompt_format="state32", max_prompt_tokens=45)
    text = old.tokenizer.decode(old.encode(observation()).tokens.tolist())
    assert text.count("128") >= 28


@given(chunk=npst.arrays(np.float32, (5, 3), elements=st.floats(-8, 8, width=32)), relative=st.booleans())
def test_decode_undoes_encode(processor: Processor, chunk: np.ndarray, relative: bool) -> None:
    chosen = dataclasses.replace(processor, relative_mask=(True, True, False) if relative else None)
    state = np.array([1.0, -2.0, 3.0, 4.0], np.float32)
    encoded = chosen.encode_actions(chunk, state)
    assert encoded.shape == (5, 8)
    assert encoded.dtype == np.float32
    assert not encoded[:, 3:].any()
    np.testing.assert_allclose(chosen.decode_actions(encoded, state), chunk, atol=FLOAT32)


def test_relative_actions_are_normalised_after_the_subtraction(processor: Processor) -> None:
    chosen = dataclasses.replace(processor, relative_mask=(True, False, False))
    state = np.array([1.0, 9.0, 9.0, 9.0], np.float32)
    chunk = np.tile(processor.action_stats.q01.astype(np.float32), (5, 1)) + np.array([1.0, 0, 0], np.float32)
    np.testing.assert_allclose(chosen.encode_actions(chunk, state)[:, :3], -1, atol=FLOAT32)


def test_batches_equal_single_chunks(processor: Processor) -> None:
    chosen = dataclasses.replace(processor, relative_mask=(True, True, False))
    rng = np.random.default_rng(0)
    chunks, states = rng.normal(size=(4, 5, 3)).astype(np.float32), rng.normal(size=(4, 4)).astype(np.float32)
    together = chosen.encode_actions(chunks, states)
    for i in range(4):
        np.testing.assert_array_equal(together[i], chosen.encode_actions(chunks[i], states[i]))
    np.testing.assert_allclose(chosen.decode_actions(together, states), chunks, atol=FLOAT32)


def test_modes_are_per_kind(processor: Processor) -> None:
    chosen = dataclasses.replace(processor, normalization={"STATE": "QUANTILES", "ACTION": "IDENTITY"})
    chunk = np.full((5, 3), 7, np.float32)
    np.testing.assert_array_equal(chosen.encode_actions(chunk, np.zeros(4, np.float32))[:, :3], chunk)
    assert (chosen.encode(observation()).tokens == processor.encode(observation()).tokens).all()


def test_storage(processor: Processor) -> None:
    chosen = dataclasses.replace(processor, relative_mask=(True, True, False), prompt_format="state")
    again = Processor.from_dict(chosen.to_dict(), chosen.tokenizer)
    assert again.to_dict() == chosen.to_dict()
    assert again.fingerprint == chosen.fingerprint != processor.fingerprint
    assert (again.encode(observation()).tokens == chosen.encode(observation()).tokens).all()


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("resize", "bilinear", "the resize is not one that this version knows"),
        ("formula", "mine", "the normalisation formula is not one that this version knows"),
        ("prompt_format_version", 2, "the prompt format version is not the one"),
        ("tokenizer", {"file": "tokenizer.json", "sha256": "0" * 64}, "the tokenizer is not the one"),
    ],
)
def test_other_preprocessing_is_refused(processor: Processor, key: str, value: Any, part: str) -> None:
    with pytest.raises(DataError, match=part):
        Processor.from_dict(processor.to_dict() | {key: value}, processor.tokenizer)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({WRIST: None}, [f"camera {WRIST} is missing"]),
        ({"observation.images.side": np.zeros((4, 4, 3), np.uint8)}, ["observation.images.side is unknown"]),
        ({SCENE: np.zeros((3, 30, 40), np.uint8)}, ["uint8[3, 30, 40]", "channels come first"]),
        ({SCENE: np.zeros((30, 40, 3), np.float32)}, ["float32[30, 40, 3]"]),
        ({"task": None}, ["no task"]),
        ({"task": 3}, ["a int"]),
        ({"observation.state": None}, ["no state", "4 numbers"]),
        ({"observation.state": np.zeros(3, np.float32)}, ["the state has the wrong shape", "(4,): a, b, c, d", "(3,)"]),
        ({"task": "put the red block on the " * 4}, ["too long", "at most 24 tokens", "--policy.tokenizer_max_length"]),
    ],
)
def test_faulty_observations(processor: Processor, changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        processor.encode(observation(**changes))
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_a_state_in_a_batch_of_one_is_taken_out_of_it(processor: Processor) -> None:
    state = np.array([0.1, -0.2, 0.3, 0.4], np.float32)
    plain, boxed = (processor.encode(observation(**{"observation.state": s})) for s in (state, state[None]))
    assert (plain.tokens == boxed.tokens).all()
    assert processor.state_of(observation(**{"observation.state": state[None]})).shape == (4,)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (np.zeros((2, 4), np.float32), r"wrong shape[\s\S]*\(2, 4\)"),
        (np.zeros((1, 1, 4), np.float32), r"wrong shape[\s\S]*\(1, 1, 4\)"),
        (np.float32(0), r"wrong shape[\s\S]*\(\)"),
        (np.array([0, np.nan, 0, 0]), r"not a number[\s\S]*nan in dimension 1 \(b\)"),
        ([[0, 0, 0, float("-inf")]], r"not a number[\s\S]*-inf in dimension 3 \(d\)"),
        ([0, 0, 0, "x"], "does not consist of numbers"),
        ([0, [1, 2], 0, 0], "does not consist of numbers"),
        (["0", "0", "0", "0"], "does not consist of numbers"),
        ([1e300, 0, 0, 0], r"not a number[\s\S]*inf in dimension 0 \(a\)"),
    ],
)
def test_a_state_of_another_form_is_refused(processor: Processor, state: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        processor.encode(observation(**{"observation.state": state}))


def test_the_state_may_be_missing_where_nothing_reads_it(processor: Processor) -> None:
    without = observation(**{"observation.state": None})
    blind = dataclasses.replace(processor, prompt_format="none")
    assert blind.state_of(without).tolist() == [0, 0, 0, 0]
    relative = dataclasses.replace(blind, relative_mask=(True, False, False))
    with pytest.raises(DataError, match="no state"):
        relative.state_of(without)
    with pytest.raises(DataError, match="no state"):
        relative.encode(without)


def test_a_dropped_camera_may_be_sent(processor: Processor) -> None:
    processor.encode(observation(**{"observation.images.phone": np.zeros((4, 4, 3), np.uint8)}))


def test_a_too_long_prompt_names_task_count_and_limit(processor: Processor) -> None:
    task = "put the red block on the plate " * 3
    with pytest.raises(DataError) as error:
        processor.encode_prompts(["put", task], np.zeros((2, 4), np.float32))
    message = str(error.value)
    assert repr(task) in message
    assert "at most 24 tokens" in message
    assert "34 tokens" in message
    assert "to 40" in message


def test_actions_of_the_wrong_shape(processor: Processor) -> None:
    state = np.zeros(4, np.float32)
    for shape in ((5, 4), (4, 3)):
        with pytest.raises(DataError, match="the action has the wrong shape"):
            processor.encode_actions(np.zeros(shape, np.float32), state)


def test_settings_are_checked_at_construction(processor: Processor) -> None:
    with pytest.raises(DataError, match="more action dimensions"):
        dataclasses.replace(processor, action_dim=2)


def test_description(processor: Processor) -> None:
    text = processor.describe()
    assert f"{SCENE}" in text
    assert "→ scene" in text
    assert "5 steps (0.5 s at 10 Hz) of 3 numbers padded to 8" in text


def test_prompts_on_gemma(processor: Processor, shared: Path) -> None:
    """openpi's LIBERO format appends the line break's own token; with Gemma's vocabulary that is 108."""
    gemma = Tokenizer.load(shared / "tokenizer" / "gemma")
    bare = dataclasses.replace(processor, tokenizer=gemma, prompt_format="none")
    tokens = bare.encode_prompts(["put the banana on the plate"], None)[0]
    assert tokens == [2, 1065, 573, 31985, 611, 573, 8811, 108]


def test_lerobots_resize_gives_floats_where_a_size_changed(processor: Processor) -> None:
    chosen = dataclasses.replace(processor, resize="lerobot-bilinear-pad", formula="lerobot")
    given_one = observation()
    encoded = chosen.encode(given_one)
    assert encoded.images.dtype == np.float32
    assert -1 <= encoded.images.min() < encoded.images.max() <= 1
    np.testing.assert_array_equal(encoded.images[1], given_one[WRIST].astype(np.float32) / 255 * 2 - 1)
    assert (encoded.images[2] == -1).all()
    square = observation(**{SCENE: given_one[WRIST]})
    assert chosen.encode(square).images.dtype == np.uint8, "no size changed"


def test_bytes_among_floats_are_converted_not_counted_up_to_255(processor: Processor) -> None:
    chosen = dataclasses.replace(processor, resize="lerobot-bilinear-pad")
    square = observation(**{SCENE: observation()[WRIST]})
    images = collate([chosen.encode(square), chosen.encode(observation())]).images
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1


def test_old_checkpoints_have_openpis_formula(processor: Processor) -> None:
    stored = processor.to_dict()
    assert (stored["formula"], stored["resize"]) == ("openpi", "pil-bilinear-antialias-pad")
    del stored["formula"]
    assert Processor.from_dict(stored, processor.tokenizer).formula == "openpi"
    other = dataclasses.replace(processor, formula="lerobot", resize="lerobot-bilinear-pad", fps=None)
    again = Processor.from_dict(other.to_dict(), processor.tokenizer)
    assert (again.formula, again.resize, again.fps) == ("lerobot", "lerobot-bilinear-pad", None)
    assert "resized as LeRobot does" in again.describe()
    assert "5 steps of 3 numbers" in again.describe(), "no rate, no seconds"
