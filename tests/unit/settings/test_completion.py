"""What the scripts offer; in the shells themselves: tests/unit/commands/test_completion.py."""

from __future__ import annotations

from typing import Literal

import pytest

from pi05.settings.completion import (
    CompletedCommand,
    CompletedFlag,
    bash_script,
    complete_setting,
    fish_script,
    zsh_script,
)
from pi05.settings.schema import Setting


@pytest.mark.parametrize(
    ("kind", "choices", "bare", "file"),
    [
        (bool, ("true", "false"), True, False),
        (bool | None, ("true", "false"), True, False),
        (Literal["a", "b"], ("a", "b"), False, False),
        (Literal["a", "b"] | None, ("a", "b"), False, False),
        (int, (), False, False),
        (str | None, (), False, True),
        (tuple[str, ...], (), False, False),
    ],
)
def test_what_is_offered_follows_from_the_type(kind: object, choices: tuple[str, ...], bare: bool, file: bool) -> None:
    flag = complete_setting(Setting("a.b", kind, None, "What it is: in short. And more.\n- a: choice"))
    assert flag == CompletedFlag("a.b", "What it is", choices, bare, file)


def test_long_help_is_cut_between_words() -> None:
    flag = complete_setting(Setting("a", int, 1, "word " * 40))
    assert len(flag.help) <= 70
    assert flag.help.endswith("word …")
    assert complete_setting(Setting("a", int, 1, "2.5e-5 of `x`. More")).help == "2.5e-5 of x"


EVIL = CompletedCommand("go", "It's: [a]", (CompletedFlag("x.y", "It's [a]: b\\c", ("p", "q"), False, False),))


def test_quotes_and_brackets_of_texts_are_written_as_each_shell_wants_them() -> None:
    assert "'go:It'\\''s: [a]'" in zsh_script([EVIL])
    assert "'--x.y=[It'\\''s \\[a\\]\\: b\\\\c]:value:(p q)'" in zsh_script([EVIL])
    assert r"-l x.y -x -a 'p q' -d 'It\'s [a]: b\\c'" in fish_script([EVIL])
    assert '"go --x.y") choices="p q" ;;' in bash_script([EVIL])
    assert 'go) flags="--x.y= --help" ;;' in bash_script([EVIL])
