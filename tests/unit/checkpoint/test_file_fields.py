"""Every field that a checkpoint's processor writes has a shape, and damage of it is named before anybody uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fake_policies import make_policy, save_policy

from pi05.checkpoint.file_fields import ProcessorFields
from pi05.errors import UserError
from pi05.policy import Policy


@pytest.fixture
def whole(tmp_path: Path) -> Policy:
    """A policy whose processor has all that one can have."""
    tokenizer = fakes.write_tokenizer(tmp_path / "tokenizer.json")
    plain = make_policy(tokenizer, camera_sizes={"scene": (30, 40)}, relative_mask=(True, True, False))
    frames = np.random.default_rng(0).integers(0, 255, (40, 2, 48, 48, 3), np.uint8)
    episodes = [list(range(e, e + 10)) for e in range(0, 40, 10)]
    seen = plain.processor.having_seen(lambda frame: list(frames[frame]), episodes)
    return Policy(plain.model, seen.having_heard(["pick it up"]))


def test_every_field_that_is_written_has_a_shape(whole: Policy) -> None:
    written = set(whole.processor.to_dict())
    assert {"camera_sizes", "camera_views", "instructions", "relative_mask"} <= written
    assert written <= set(ProcessorFields.__annotations__)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("camera_sizes", {"scene": 224}),
        ("camera_sizes", [1]),
        ("camera_sizes", None),
        ("camera_sizes", {"scene": [30]}),
        ("camera_sizes", {"scene": [30, 40, 3]}),
        ("camera_sizes", {"scene": ["30", "40"]}),
        ("camera_sizes", {"scene": [0, 40]}),
        ("camera_views", [1]),
        ("camera_views", {"scene": 3}),
        ("camera_views", {"scene": {"mean": "zz", "spread": "", "turns": [], "coloured": True}}),
        ("camera_views", {"scene": {}}),
        ("instructions", "pick it up"),
        ("instructions", [3]),
        ("instructions", None),
    ],
)
def test_damage_is_named(whole: Policy, tmp_path: Path, field: str, value: Any) -> None:
    folder = save_policy(tmp_path / "policy", whole)
    Policy.load(folder)
    config = json.loads((folder / "config.json").read_text())
    config["processor"][field] = value
    del config["fingerprint"]  # as in checkpoints of 0.1: nobody knows that it was edited
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"camera_|cameras|instructions"):
        Policy.load(folder)
