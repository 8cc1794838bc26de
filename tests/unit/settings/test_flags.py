"""Flags in LeRobot's spelling: every form that is accepted, every mistake that is named."""

from __future__ import annotations

import typing
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi05.errors import ConfigError
from pi05.settings.flags import Translation, help_text, overlay, parse_flags, parse_value
from pi05.settings.schema import Setting, convert, to_plain, walk
from pi05.train.config import TrainConfig


def values(*arguments: str) -> dict[str, Any]:
    return parse_flags(TrainConfig, arguments).values


@pytest.mark.parametrize("arguments", [["--batch_size=8"], ["--batch-size", "8"], ["--batch-size=8"]])
def test_underscore_and_hyphen_equals_and_space_are_the_same(arguments: list[str]) -> None:
    assert values(*arguments) == {"batch_size": 8}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--wandb.enable"], True),
        (["--wandb.enable=true"], True),
        (["--wandb.enable", "True"], True),
        (["--wandb.enable=1"], True),
        (["--wandb.enable=false"], False),
        (["--wandb.enable", "no"], False),
    ],
)
def test_booleans_take_a_value_or_stand_bare(arguments: list[str], expected: bool) -> None:
    assert values(*arguments) == {"wandb.enable": expected}


def test_a_bare_boolean_leaves_the_next_flag_alone() -> None:
    assert values("--resume", "--steps", "3") == {"resume": True, "steps": 3}


@pytest.mark.parametrize("text", ['["a", "b"]', "[a,b]", "[a, b]", "['a', 'b']"])
def test_lists_are_json_or_bare(text: str) -> None:
    assert values(f"--drop_cameras={text}") == {"drop_cameras": ("a", "b")}


def test_bare_words_in_lists_are_never_booleans_or_numbers() -> None:
    assert values("--drop_cameras=[on, off, no, 1]") == {"drop_cameras": ("on", "off", "no", "1")}


@pytest.mark.parametrize(
    "text", ['{"ACTION": "MEAN_STD", "STATE": "QUANTILES"}', "{ACTION: MEAN_STD, STATE: QUANTILES}"]
)
def test_dictionaries_are_json_or_bare(text: str) -> None:
    expected = {"ACTION": "MEAN_STD", "STATE": "QUANTILES"}
    assert values("--policy.normalization_mapping", text) == {"policy.normalization_mapping": expected}


def test_numbers_in_lists_are_typed() -> None:
    assert values("--dataset.episodes=[0, 2]") == {"dataset.episodes": (0, 2)}
    assert values("--policy.optimizer_betas=[0.9, 0.99]") == {"policy.optimizer_betas": (0.9, 0.99)}


@pytest.mark.parametrize(
    "setting",
    [s for s in walk(TrainConfig) if typing.get_args(s.kind) and "tuple" in str(s.kind) and "..." in str(s.kind)],
    ids=lambda setting: setting.path,
)
def test_a_single_word_is_a_list_of_one(setting: Setting) -> None:
    number = "int" in str(setting.kind)
    assert values(f"--{setting.path}={'7' if number else 'word'}") == {setting.path: (7,) if number else ("word",)}
    for several in ("a,b", "a b", "{a: b}", "[a"):
        with pytest.raises(ConfigError, match="cannot be"):
            values(f"--{setting.path}={several}")


def test_a_list_of_a_fixed_length_takes_no_single_word() -> None:
    with pytest.raises(ConfigError, match=r"--policy\.optimizer_betas cannot be 0\.9"):
        values("--policy.optimizer_betas=0.9")


def test_null_unsets_what_may_be_unset() -> None:
    assert values("--policy.path=null", "--threads=None") == {"policy.path": None, "threads": None}


def test_of_a_flag_given_twice_the_last_one_counts() -> None:
    assert values("--steps=3", "--steps=4") == {"steps": 4}


def test_negative_numbers_are_values() -> None:
    assert values("--seed", "-1") == {"seed": -1}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--steps=abc"], "--steps cannot be abc"),
        (["--steps=1.5"], "--steps cannot be 1.5"),
        (["--steps"], "--steps has no value"),
        (["--steps="], "--steps has no value"),
        (["--steps=none"], "--steps cannot be none"),
        (["--policy.optimizer_lr=nan"], "--policy.optimizer_lr cannot be"),
        (["--wandb.enable=maybe"], "--wandb.enable cannot be maybe"),
        (["--loss=l2"], "--loss cannot be l2"),
        (["--dataset.episodes=0,1"], "--dataset.episodes cannot be 0,1"),
        (["--dataset.episodes=[a]"], "--dataset.episodes cannot be a"),
        (["--dataset.episodes=[[1]]"], "--dataset.episodes cannot be"),
        (["--rename_map={a:b}"], "--rename_map cannot be {a:b}"),
        (["--rename_map={a: [b]}"], "--rename_map cannot be"),
        (["--rename_map={"], "--rename_map cannot be {"),
        (["-s", "3"], "-s is no flag"),
    ],
)
def test_mistakes_are_named(arguments: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        values(*arguments)
    assert caught.value.problem.startswith(text)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--batchsize", "--batch_size"),
        ("--policy.lr", "--policy.optimizer_lr"),
        ("--device", "--policy.device"),
        ("--wandb.enabled", "--wandb.enable"),
        ("--optimizer_lr", "--policy.optimizer_lr"),
    ],
)
def test_an_unknown_flag_names_the_nearest_one(flag: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        values(f"{flag}=1")
    assert caught.value.problem == f"there is no flag {flag}"
    assert f"did you mean {meant}" in caught.value.remedy


def test_a_flag_far_from_all_others_gets_no_guess() -> None:
    with pytest.raises(ConfigError) as caught:
        values("--xyzzy=1")
    assert "did you mean" not in caught.value.remedy


def foreign(path: str, text: str | None) -> Translation | None:
    return {"old_steps": Translation("steps", text, "taken as steps"), "nothing": Translation(notice="as it is")}.get(
        path
    )


def test_foreign_flags_become_ours_and_say_so() -> None:
    flags = parse_flags(TrainConfig, ["word", "--old_steps=5", "--nothing"], foreign=foreign)
    assert flags.values == {"steps": 5}
    assert flags.notices == ["taken as steps", "as it is"]
    assert flags.words == ["word"]


def test_two_names_for_one_setting_must_agree() -> None:
    assert parse_flags(TrainConfig, ["--old_steps=5", "--steps=5"], foreign=foreign).values == {"steps": 5}
    with pytest.raises(ConfigError, match="contradict each other"):
        parse_flags(TrainConfig, ["--old_steps=5", "--steps=6"], foreign=foreign)


def test_overlay_reaches_into_groups_and_copies() -> None:
    plain = {"a": 1, "group": {"b": 2, "c": 3}}
    assert overlay(plain, {"group.b": 4, "a": 5}) == {"a": 5, "group": {"b": 4, "c": 3}}
    assert plain == {"a": 1, "group": {"b": 2, "c": 3}}


def test_help_names_every_flag_with_its_text_and_default() -> None:
    text = help_text(TrainConfig)
    for setting in walk(TrainConfig):
        assert setting.help, f"{setting.path} has no docstring"
        assert f"--{setting.path}  (" in text
    assert "--policy.optimizer_betas  (a list of 2 numbers; default [0.9, 0.95])" in text
    assert "--augment  (true or false; default true)" in text


@pytest.mark.parametrize("width", [40, 80, 100])
def test_help_is_as_wide_as_asked_and_keeps_choices_on_lines_of_their_own(width: int) -> None:
    lines = help_text(TrainConfig, width=width).splitlines()
    assert max(len(line) for line in lines if " " in line.strip()) <= width
    assert any(line.startswith("      - bf16-sr: ") for line in lines)
    assert not any(line.lstrip().startswith("% ") for line in lines)


words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)


@given(st.lists(words, max_size=4))
def test_any_list_of_words_survives_the_bare_form(names: list[str]) -> None:
    assert parse_value(tuple[str, ...], "[" + ", ".join(names) + "]", "x") == tuple(names)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_survives_its_text(number: float) -> None:
    assert parse_value(float, repr(number), "x") == number


def test_none_is_a_choice_where_it_is_one_and_else_nothing() -> None:
    kind = Literal["state", "none"] | None
    assert parse_value(kind, "none", "prompt_format") == "none"
    assert parse_value(kind, "null", "prompt_format") is None
    assert parse_value(int | None, "none", "steps") is None
    assert values("--prompt_format=none") == {"prompt_format": "none"}
    assert values("--prompt_format=null") == {"prompt_format": None}


def test_a_number_or_a_word() -> None:
    kind = int | Literal["auto"] | None
    assert [parse_value(kind, text, "episodes") for text in ("7", "auto", "none")] == [7, "auto", None]
    with pytest.raises(ConfigError, match=r"--episodes cannot be many\n  wanted: a whole number or auto"):
        parse_value(kind, "many", "episodes")


def test_a_number_a_word_or_a_list() -> None:
    kind = int | Literal["auto", "all"] | tuple[int, ...] | None
    texts = ("7", "all", "[3, 17]", "none")
    values = [parse_value(kind, text, "episodes") for text in texts]
    assert values == [7, "all", (3, 17), None]
    assert [convert(kind, to_plain(value), "episodes") for value in values] == values
    with pytest.raises(ConfigError, match=r"wanted: a whole number or auto or all or a list of whole numbers"):
        parse_value(kind, "3,17", "episodes")
    with pytest.raises(ConfigError, match="--episodes cannot be"):
        parse_value(kind, "[a]", "episodes")
