from __future__ import annotations

import inspect
from typing import Any

import pytest

from pi05.checkpoint.policy_options import PolicyOptions
from pi05.errors import ConfigError
from pi05.eval.config import EvalConfig
from pi05.policy import Policy
from pi05.policy_choice import ChosenPolicy, PolicyChoice
from pi05.serve.config import ServeConfig
from pi05.settings.schema import walk


@pytest.mark.parametrize(
    "wrong", [{"device": "tpu"}, {"n_action_steps": 0}, {"num_inference_steps": 0}, {"chunk_size": 0}]
)
def test_impossible_settings_of_the_policy_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--policy.{next(iter(wrong))}"):
        ChosenPolicy(**wrong)


def test_what_is_told_is_what_loading_takes() -> None:
    told = PolicyChoice(
        policy=ChosenPolicy(chunk_size=12, tokenizer_path="tokenizer"),
        prompt_format="none",
        rename_map={"front": "scene"},
        accept_edited=("resize",),
    ).told
    assert set(told) <= set(inspect.signature(Policy.load).parameters)
    options = PolicyOptions(**told)
    assert (options.horizon, options.tokenizer_path, options.prompt_format) == (12, "tokenizer", "none")
    assert (options.rename_map, options.accept_edited) == ({"front": "scene"}, ("resize",))
    assert PolicyOptions(**PolicyChoice().told) == PolicyOptions()


@pytest.mark.parametrize("command", [EvalConfig, ServeConfig])
def test_both_commands_have_the_same_flags_with_the_same_words(command: type) -> None:
    own = {setting.path: (setting.default, setting.help) for setting in walk(command)}
    shared = {setting.path: (setting.default, setting.help) for setting in walk(PolicyChoice)}
    assert len(shared) == 11
    assert {path: own.get(path) for path in shared} == shared
    assert all(text for _, text in shared.values())
