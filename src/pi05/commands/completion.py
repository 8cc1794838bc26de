"""`pi05 completion`: the script that lets a shell complete commands, flags and their choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pi05.commands.command import Command, read_words
from pi05.errors import ConfigError, tell
from pi05.settings.completion import (
    CompletedCommand,
    bash_script,
    complete_setting,
    fish_script,
    zsh_script,
)
from pi05.settings.schema import Checked, walk

SCRIPTS: dict[str, Callable[[Sequence[CompletedCommand]], str]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
}


@dataclass(frozen=True, kw_only=True)
class CompletionConfig(Checked):
    """Settings of `pi05 completion`: none."""

    FLAG_PREFIX: ClassVar[str] = ""


def completion_command(table: Mapping[str, Command]) -> Command:
    """Return the command that describes a table of commands, itself included."""

    def run(arguments: Sequence[str]) -> int:
        _, words = read_words(CompletionConfig, arguments)
        if len(words) != 1 or words[0] not in SCRIPTS:
            raise ConfigError(
                "pi05 completion takes the name of a shell",
                wanted=", ".join(SCRIPTS),
                found=" ".join(words) or "nothing",
                remedy='for this session: eval "$(pi05 completion bash)"; docs/completion.md tells how to keep it',
            )
        tell(SCRIPTS[words[0]](completed(table)).removesuffix("\n"))
        return 0

    return Command(
        summary="Lets bash, zsh or fish complete commands, flags and their choices.",
        usage='eval "$(pi05 completion bash|zsh)"; pi05 completion fish | source',
        run=run,
        settings=CompletionConfig,
    )


def completed(table: Mapping[str, Command]) -> list[CompletedCommand]:
    """Return the commands of a table as a shell offers them."""
    return [
        CompletedCommand(
            name,
            command.summary,
            tuple(complete_setting(setting) for setting in (*command.extra, *walk(command.settings))),
        )
        for name, command in table.items()
    ]
