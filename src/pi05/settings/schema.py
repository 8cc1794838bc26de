"""What every configuration shares: typed plain data, read from and written to JSON, documented field by field.

A configuration is a frozen, keyword-only dataclass of numbers, strings, booleans, tuples, string dictionaries, and
other such dataclasses ("groups"). The path of a field is its flag: `policy.device` is `--policy.device`. The docstring
under a field is its help text and is read from the source, so that it exists once. No torch, no NumPy: `--help` imports
this module.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union

from pi05.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One leaf of a configuration class: its path, its type, its default and its documentation."""

    path: str
    kind: Any
    default: Any
    help: str


def hints(cls: type) -> dict[str, Any]:
    """Return the resolved type of each field of `cls`."""
    return _hints(cls)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def is_group(kind: Any) -> bool:
    """Tell whether a field of this type holds further fields."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def walk(cls: type, prefix: str = "") -> Iterator[Setting]:
    """Yield every leaf of `cls`, groups opened, in the order of definition."""
    documentation = field_docs(cls)
    for field in dataclasses.fields(cls):
        kind = hints(cls)[field.name]
        if is_group(kind):
            yield from walk(kind, f"{prefix}{field.name}.")
        else:
            yield Setting(f"{prefix}{field.name}", kind, default_of(field), documentation.get(field.name, ""))


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return a field's default; `dataclasses.MISSING` where it must be given."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


@functools.cache
def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring that stands under each field, read from the source of the class and of those it extends.

    Lines are joined; one that begins with "- ", the meaning of one choice, stays a line of its own.
    """
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        if dataclasses.is_dataclass(parent):
            found |= _own_docs(parent)
    return found


def _own_docs(cls: type) -> dict[str, str]:
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls)))
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    found = {}
    for statement, following in itertools.pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            choices = re.split(r"\n\s*(?=- )", following.value.value)
            found[statement.target.id] = "\n".join(" ".join(choice.split()) for choice in choices)
    return found


def to_plain(value: Any) -> Any:
    """Return a configuration as dictionaries, lists and scalars, ready for JSON."""
    if is_group(type(value)):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def from_plain(cls: type[T], values: Any, prefix: str = "") -> T:
    """Build a configuration from `to_plain`'s output. Raises ConfigError for a name or a value that does not fit."""
    if not isinstance(values, Mapping):
        raise refuse(
            prefix.rstrip(".") or cls.__name__, values, "a group of settings", "give an object of named values"
        )
    known = [field.name for field in dataclasses.fields(typing.cast(Any, cls))]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(
            f"the configuration has settings that this version does not know: {', '.join(prefix + n for n in unknown)}",
            wanted=f"some of {', '.join(prefix + name for name in known)}",
            remedy="remove them, or use the pi05 version that wrote the file",
        )
    return cls(**{name: convert(hints(cls)[name], value, prefix + name) for name, value in values.items()})


def convert(kind: Any, value: Any, path: str) -> Any:
    """Turn plain data into the type of a field: lists into tuples, groups into classes, whole numbers into floats."""
    if is_group(kind):
        return from_plain(kind, value, f"{path}.")
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (Union, types.UnionType):
        if value is None:
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        if isinstance(value, list | tuple):  # of several kinds, only a list can be meant
            inner = [argument for argument in inner if typing.get_origin(argument) is tuple] or inner
        if len(inner) == 1:
            return convert(inner[0], value, path)
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(inner) == len(value):
            return tuple(convert(k, v, path) for k, v in zip(inner, value, strict=True))
    if kind is float and type(value) is int:
        return float(value)
    if not fits(kind, value):
        raise refuse(path, value, describe(kind), f"set --{path} to {describe(kind)}")
    return value


def fits(kind: Any, value: Any) -> bool:
    """Tell whether a value has the type of a field. True is no number, and NaN and infinity are no settings."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(argument, value) for argument in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin is tuple:
        inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis and isinstance(value, tuple) else arguments
        return isinstance(value, tuple) and len(inner) == len(value) and all(map(fits, inner, value))
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(arguments[0], k) and fits(arguments[1], v) for k, v in value.items()
        )
    if kind is float:
        return type(value) is float and math.isfinite(value)
    return type(value) is kind


def describe(kind: Any) -> str:
    """Return a field's type in a user's words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments if argument is not type(None))
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"a list of {count}{_PLURALS.get(arguments[0], 'values')}"
    if origin is dict:
        return "a dictionary such as {a: b}"
    return _WORDS.get(kind, str(kind))


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "names"}


def refuse(path: str, value: Any, allowed: str, remedy: str) -> ConfigError:
    """Return the error for an impossible value: flag, value, what is allowed, what to do."""
    shown = value if isinstance(value, str) and value else repr(value)
    return ConfigError(f"--{path} cannot be {shown}", wanted=allowed, found=repr(value), remedy=remedy)


class Checked:
    """Base of the configuration classes: types are verified at construction; ranges by the class's own `_limits`."""

    FLAG_PREFIX: typing.ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(typing.cast(Any, self)):
            kind, value = hints(type(self))[field.name], getattr(self, field.name)
            if not fits(kind, value):
                raise self._refuse(field.name, describe(kind))
        self._limits()

    def _limits(self) -> None:
        """Raise ConfigError for values that are of the right type and impossible all the same."""

    def _refuse(self, name: str, allowed: str, remedy: str | None = None) -> ConfigError:
        flag = self.FLAG_PREFIX + name
        return refuse(flag, getattr(self, name), allowed, remedy or f"set --{flag} to {allowed}")

    def _require(self, holds: bool, name: str, allowed: str, remedy: str | None = None) -> None:
        if not holds:
            raise self._refuse(name, allowed, remedy)

    def _at_least(self, least: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            self._require(value is None or value >= least, name, f"{least} or more")
