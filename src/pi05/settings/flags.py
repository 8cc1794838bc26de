"""Command-line flags for any configuration class, in LeRobot's spelling.

The dotted path of a field is its flag. Underscore and hyphen are the same, booleans take `true|false` or stand bare,
lists and dictionaries are JSON or YAML's bare form (`[q_proj,v_proj]`), a single word is a list of one, and of a flag
given twice the last one counts, so that a script can append "$@". Nothing is guessed and nothing is dropped: an unknown
flag is an error that names the nearest known one. What the flags of another program mean here is in `lerobot_flags.py`.
"""

from __future__ import annotations

import difflib
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any, Literal, Union

from pi05.errors import ConfigError
from pi05.settings.schema import Setting, convert, describe, refuse, walk

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
BOOLEANS = (*_TRUE, *_FALSE)
_NOTHING = ("null", "none")

Foreign = Callable[[str, str | None], "Translation | None"]
"""Answers for a flag that the configuration class does not have: what it means here, or an error; None: unknown."""


@dataclass(frozen=True)
class Translation:
    """What a foreign flag means here: a flag of ours with its value (or nothing at all), and a line that says so."""

    path: str | None = None
    value: str | None = None
    notice: str | None = None


@dataclass
class Flags:
    """The flags of one command line: values by path, the words that were no flags, and notices to print."""

    values: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def parse_flags(
    cls: type,
    arguments: Sequence[str],
    *,
    foreign: Foreign | None = None,
    refuse_value: Callable[[str, str], None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Flags:
    """Read a command line against the fields of `cls` and `extra` (more flags, path → type). Raises ConfigError.

    `refuse_value` may raise a better error for a value of a known flag than "not one of the choices".
    """
    kinds = {setting.path: setting.kind for setting in walk(cls)} | dict(extra or {})
    found, spelled = Flags(), dict[str, str]()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            if word.startswith("-"):
                raise ConfigError(f"{word} is no flag", wanted="--name=value", remedy="write flags with two hyphens")
            found.words.append(word)
            continue
        name, equals, text = word[2:].partition("=")
        path = name.replace("-", "_")
        given = text if equals else _take_value(kinds.get(path), rest)
        if path in kinds:
            if refuse_value is not None and given is not None:
                refuse_value(path, given)
            _store(found, spelled, path, parse_value(kinds[path], given, path), path)
            continue
        meaning = foreign(path, given) if foreign is not None else None
        if meaning is None:
            raise unknown_flag(path, kinds)
        if meaning.notice is not None:
            found.notices.append(meaning.notice)
        if meaning.path is not None:
            value = parse_value(kinds[meaning.path], meaning.value, path)
            _store(found, spelled, meaning.path, value, path)
    return found


def _take_value(kind: Any, rest: list[str]) -> str | None:
    """Take the value that follows a flag as its own word. A boolean takes one only where it looks like one."""
    if not rest or rest[0].startswith("--"):
        return None
    if kind is bool and rest[0].lower() not in BOOLEANS:
        return None
    return rest.pop(0)


def _store(found: Flags, spelled: dict[str, str], path: str, value: Any, flag: str) -> None:
    """Keep a value. Two different flags for the same setting must agree; the same flag twice: the last one counts."""
    other = spelled.get(path)
    if other is not None and other != flag and found.values[path] != value:
        raise ConfigError(
            f"--{other} and --{flag} contradict each other",
            wanted="one of them, or the same meaning",
            found=f"{path} would be {found.values[path]!r} and {value!r}",
            remedy="remove one of the two",
        )
    found.values[path] = value
    spelled[path] = flag


def parse_value(kind: Any, text: str | None, path: str) -> Any:
    """Turn the text of a flag into the type of its field. None as text: the flag stood without a value."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not type(None)]
        words = [choice for choice in kinds if typing.get_origin(choice) is Literal]
        named = [choice for choice in words if text in typing.get_args(choice)]  # "none" may be one of them
        if text is not None and text.lower() in _NOTHING and not named:
            return None
        lists = [choice for choice in kinds if typing.get_origin(choice) is tuple]
        if len(kinds) > 1 and text and lists and text.lstrip().startswith("["):
            return convert(lists[0], _parse_structure(lists[0], text, path), path)
        if len(kinds) > 1 and text:
            return text if named else convert(kind, _parse_scalar(kinds[0], text), path)
        kind = kinds[0]
    if kind is bool:
        return _parse_boolean(text, path)
    if text is None or text == "":
        raise ConfigError(f"--{path} has no value", wanted=describe(kind), remedy=f"write --{path}=VALUE")
    if typing.get_origin(kind) in (tuple, dict):
        return convert(kind, _parse_structure(kind, text, path), path)
    return convert(kind, _parse_scalar(kind, text), path)


def _parse_boolean(text: str | None, path: str) -> bool:
    if text is None or text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise refuse(path, text, "true or false", f"write --{path}=true or --{path}=false")


def _parse_scalar(kind: Any, text: str) -> Any:
    """Return a number or a choice, in any case, where one is wanted; else the text, which `convert` refuses."""
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if typing.get_origin(kind) is Literal:  # LeRobot writes --peft.method_type=LORA
        return next((choice for choice in typing.get_args(kind) if str(choice).lower() == text.lower()), text)
    return text


def _parse_structure(kind: Any, text: str, path: str) -> Any:
    """Read a list or dictionary. Leaves stay text (YAML would turn `on` into True) and are typed by the field."""
    import yaml

    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    shape, example = (dict, "'{key: value}'") if origin is dict else (list, "'[a, b]'")
    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        value = None
    if isinstance(value, str) and arguments[-1] is Ellipsis and re.fullmatch(r"[^\s,]+", value):
        value = [value]  # a list of one; with a comma or a space it might be meant as several
    leaves = [] if not isinstance(value, shape) else value.values() if isinstance(value, dict) else value
    if not isinstance(value, shape) or not all(isinstance(leaf, str) and leaf for leaf in leaves):
        raise refuse(path, text, describe(kind), f"write it as JSON or like --{path}={example}")
    if isinstance(value, dict):
        return value
    inner = arguments[0]
    return [_parse_scalar(inner, leaf) for leaf in value]


def unknown_flag(path: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a flag that does not exist, with the nearest one that does."""
    known = sorted(known)
    leaf = path.rpartition(".")[2]
    same_leaf = [name for name in known if f"_{name.rpartition('.')[2]}".endswith(f"_{leaf}")]
    near = same_leaf or difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    if not near:
        leaves = {name.rpartition(".")[2]: name for name in known}
        near = [leaves[match] for match in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.7)]
    meant = f"did you mean {' or '.join('--' + name for name in near)}? " if near else ""
    return ConfigError(f"there is no flag --{path}", remedy=f"{meant}--help lists all flags")


def overlay(plain: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested configuration with the values of dotted paths put on top."""
    result = dict(plain)
    for path, value in values.items():
        head, dot, tail = path.partition(".")
        result[head] = overlay(result.get(head, {}), {tail: value}) if dot else value
    return result


def help_text(cls: type, extra: Sequence[Setting] = (), width: int = 100) -> str:
    """Return one entry for each flag: name, what it takes, what it does, its default. `extra` comes first.

    Flags without a dot stand under the headings of `cls.HEADINGS`, where it has them; then come the dotted groups.
    """
    headings: Mapping[str, str] = getattr(cls, "HEADINGS", {})
    heading_of = {name: heading for heading, names in headings.items() for name in names.split()}
    groups: dict[str, list[Setting]] = {heading: [] for heading in ("", *headings)}
    for setting in sorted((*extra, *walk(cls)), key=lambda setting: setting.path.rpartition(".")[0]):
        group, _, leaf = setting.path.rpartition(".")
        groups.setdefault(group or heading_of.get(leaf, ""), []).append(setting)
    blocks = []
    for group in filter(groups.__getitem__, groups):
        lines = [f"{group or 'general'}:"]
        for setting in groups[group]:
            lines += _wrapped(f"--{setting.path}  ({_takes(setting)})", width, "  ", "      ")
            sentence, *choices = setting.help.split("\n")
            lines += _wrapped(sentence, width, "      ", "      ")
            for choice in choices:
                lines += _wrapped(choice, width, "      ", "        ")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def spellings_text(spellings: Sequence[tuple[str, str]], width: int = 100) -> str:
    """Return the part of the help about what is understood besides the flags; nothing where that is nothing."""
    lines = ["understood as well, in LeRobot's spelling:"]
    for spelling, meaning in spellings:
        lines += _wrapped(spelling, width, "  ", "    ") + _wrapped(f"{meaning}.", width, "      ", "      ")
    return "\n".join(lines) if spellings else ""


def _wrapped(text: str, width: int, first: str, following: str) -> list[str]:
    """Break a text into lines; words, numbers with their per cent and hyphenated names stay whole."""
    lines = textwrap.wrap(
        text.replace(" %", "\N{NO-BREAK SPACE}%"),
        width,
        initial_indent=first,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _takes(setting: Setting) -> str:
    kind = describe(setting.kind)
    if setting.default is None or setting.default is MISSING or setting.default in ((), {}):
        return kind
    return f"{kind}; default {_show(setting.default)}"


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_show, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_show(item)}" for key, item in value.items()) + "}"
    return str(value)
