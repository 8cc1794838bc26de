"""Which patterns are run: those of real adapters, and none that might never end."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from pi05.checkpoint.peft.config import read_adapter_config
from pi05.checkpoint.peft.patterns import danger
from pi05.errors import CheckpointError


@pytest.mark.parametrize(
    "pattern",
    [
        "all-linear",
        "q_proj",
        r"(.*\.gemma_expert\..*\.self_attn\.(q|v)_proj|model\.(state_proj|action_in_proj|action_out_proj))",
        r".*\.layers\.\d+\.(self_attn|mlp)\.(?:q|k|v|o|gate|up|down)_proj",
        r"(?:^|.*?\.)layers",
    ],
)
def test_patterns_of_real_adapters_are_run(pattern: str) -> None:
    assert danger(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(.*)*x", "(a|aa)+$", "(?:(?:x*)y?)*z", ".*.*.*.*.*.*x", "(?=(a+)+$)", "a" * 5000, "((.*a){20}){20}"],
)
def test_patterns_that_might_never_end_are_refused(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "target_modules": pattern}))
    started = time.monotonic()
    with pytest.raises(CheckpointError, match="cannot be run safely"):
        read_adapter_config(tmp_path)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("pattern", ["(layers)", "[", "(a+)+"])
def test_the_pattern_of_the_layers_is_looked_at_too(pattern: str, tmp_path: Path) -> None:
    values = {"peft_type": "LORA", "layers_pattern": pattern, "layers_to_transform": [0], "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="patterns"):
        read_adapter_config(tmp_path)


def test_what_is_no_pattern_is_told_as_such() -> None:
    with pytest.raises(re.error):
        danger("(")
