"""The packaged base: small, complete, and honest about what it has seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pi05.data.tokenizer import Tokenizer
from pi05.model.config import tiny
from pi05.policy import Policy
from pi05.presets import TINY_BASE
from pi05.sim.tabletop import Tabletop
from pi05.sim.tabletop_tasks import FAMILIES

LARGEST = 8_000_000
RECORD = Path(__file__).parents[2] / "benchmarks" / "results" / "tiny-base"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.load(TINY_BASE)


def test_it_is_at_most_eight_megabytes_with_its_tokenizer() -> None:
    files = {path.name: path.stat().st_size for path in TINY_BASE.iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert sum(files.values()) <= LARGEST


def test_it_is_the_network_of_the_preset(policy: Policy) -> None:
    assert policy.model.config == tiny()


def test_its_tokenizer_reads_any_text_and_prompts_are_short() -> None:
    tokenizer = Tokenizer.load(TINY_BASE)
    assert tokenizer.vocab_size <= tiny().vocab_size
    for text in ("grasp_cube", "把红色方块放到盘子上", "naïve 12:30 — π₀.₅"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    prompt = "Task: put the red block on the blue plate, State: 0 128 255;\nAction: "
    assert len(tokenizer.encode(prompt)) == 15


def test_new_words_are_single_tokens_of_their_own() -> None:
    """So that fine-tuning can learn `cyan` without unlearning `green`."""
    tokenizer = Tokenizer.load(TINY_BASE)
    family = FAMILIES["demo"]
    new = [tokenizer.encode(f" {word}", add_bos=False) for word in (*family.colours, *family.items, *family.targets)]
    assert all(len(ids) == 1 for ids in new)
    known = [tokenizer.encode(f" {word}", add_bos=False)[0] for word in FAMILIES["base"].colours]
    assert len({*known, *(ids[0] for ids in new)}) == len(known) + len(new)


def test_it_acts_on_the_simulator_it_was_trained_on(policy: Policy) -> None:
    environment = Tabletop("base")
    environment.reset(0)
    actions = policy.infer(environment.observe())["actions"]
    assert actions.shape == (tiny().horizon, 3)
    assert np.abs(actions[:, :2]).max() < 0.4


def test_the_record_of_its_making_is_kept() -> None:
    record = json.loads((RECORD / "evaluation.json").read_text())
    by_family = {result["family"]: result for result in record["results"]}
    assert set(by_family) == {"base", "demo"}
    assert by_family["demo"]["success"] <= 0.2
    steps = [json.loads(line) for line in (RECORD / "log.jsonl").read_text().splitlines()]
    assert steps[-1]["step"] == int(record["settings"]["steps"])
