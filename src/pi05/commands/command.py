"""What a command is, and how its words become settings.

Every file beside this one ends with its `COMMAND`; `cli.py` is the table of them. `words` are the arguments that are no
flags, such as the run of `pi05 report RUN`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pi05.errors import ConfigError
from pi05.settings.flags import overlay, parse_flags
from pi05.settings.schema import Setting, from_plain

T = TypeVar("T")
OFFLINE = Setting(
    "offline",
    bool,
    False,
    "Send nothing: names are looked up in folders and in the hub's cache only. The same as HF_HUB_OFFLINE=1.",
)
"""A flag of every command that looks names up; `cli.py` takes it out of the words, and sets the variable."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One line of the table."""

    summary: str
    usage: str
    run: Callable[[Sequence[str]], int]
    """Takes the arguments behind the command's name, returns the exit code."""
    settings: type
    """The configuration class whose fields are the flags."""
    extra: tuple[Setting, ...] = field(default=())
    """Flags that are no fields of it."""
    spellings: Callable[[], Sequence[tuple[str, str]]] = tuple
    """What else is understood, and what it means: other programs' spelling."""


def read_words(cls: type[T], arguments: Sequence[str]) -> tuple[T, list[str]]:
    """Return the settings that the flags make, and the words between them. Raises ConfigError."""
    flags = parse_flags(cls, arguments)
    return from_plain(cls, overlay({}, flags.values)), flags.words


def read_settings(cls: type[T], arguments: Sequence[str]) -> T:
    """Return the settings that the flags make. Raises ConfigError, for a word that is no flag too."""
    settings, words = read_words(cls, arguments)
    if words:
        raise ConfigError(f"'{words[0]}' is no flag", remedy="write settings as --name=value")
    return settings


def read_one_path(cls: type[T], arguments: Sequence[str], *, what: str, wanted: str, remedy: str) -> tuple[T, str]:
    """Return settings and the single word of a command that takes one. Raises ConfigError."""
    settings, words = read_words(cls, arguments)
    if len(words) != 1:
        raise ConfigError(what, wanted=wanted, remedy=remedy)
    return settings, words[0]
