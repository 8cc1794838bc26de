from __future__ import annotations

import json

import pytest

from pi05.checkpoint.lerobot.names import lerobot_layout, lerobot_sizes
from pi05.checkpoint.openpi.names import openpi_layout
from pi05.errors import CheckpointError


def test_names_are_openpis_behind_a_prefix():
    lerobot, openpi = lerobot_layout(3, 2), openpi_layout(3, 2)
    assert lerobot.title == "LeRobot"
    assert list(lerobot.targets) == ["model." + name for name in openpi.targets]
    assert list(lerobot.dead) == ["model." + name for name in openpi.dead]
    assert dict(lerobot.stand_ins) == {"model." + a: "model." + b for a, b in openpi.stand_ins.items()}


def test_sizes_of_a_config():
    config = {"type": "pi05", "chunk_size": 30, "tokenizer_max_length": 120, "paligemma_variant": "gemma_2b"}
    assert lerobot_sizes(config) == {"horizon": 30, "max_prompt_tokens": 120}
    assert lerobot_sizes({"type": "pi05"}) == {}


@pytest.mark.parametrize("kind", ["pi0", "smolvla", None])
def test_another_policy_is_refused(kind):
    with pytest.raises(CheckpointError, match="another policy") as caught:
        lerobot_sizes({"type": kind})
    assert repr(kind) in str(caught.value)


def test_a_renamed_type_is_refused_and_explained(shared):
    """A plugin may preprocess in its own way; whether it does, no file of the folder tells."""
    config = json.loads((shared / "checkpoint_json" / "hkloom_so101_pi05" / "config.json").read_text())
    with pytest.raises(CheckpointError, match="another policy") as caught:
        lerobot_sizes(config)
    assert "'pi05_openpi'" in str(caught.value)
    assert 'write "type": "pi05" only if' in str(caught.value)
    assert lerobot_sizes({**config, "type": "pi05"}) == {"horizon": 50, "max_prompt_tokens": 200}
