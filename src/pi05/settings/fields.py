"""The fields of a JSON file that somebody else may have written: checked by type and range before anything uses them.

A shape is a `TypedDict`: names, types, and with `Annotated[int, Within(1, 512)]` ranges. Every field may be missing
unless it is `Required`; names that a shape does not know are left to the caller, since foreign programs add some with
every version. The configurations of this program, which know all of their names, are read by `schema.from_plain`.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

LARGEST_INT = 2**63 - 1
SHOWN = 60


@dataclass(frozen=True)
class Within:
    """The range of a number, both ends included; of a text or a list, the range of its length."""

    least: float
    most: float


@dataclass(frozen=True)
class Fault:
    """A value that a field cannot have."""

    field: str
    """Names and places on the way, such as `steps[3].config.eps`."""
    wanted: str
    found: str


Count = Annotated[int, Within(0, 2**40)]
Positive = Annotated[float, Within(1e-6, 1e6)]
"""Of rates, in Hz."""
Finite = Annotated[float, Within(-1e30, 1e30)]
"""A number of a robot: what is larger does not survive arithmetic in float32."""


def find_fault(kind: Any, value: Any, field: str = "") -> Fault | None:
    """Return the first place where a value is not of its kind; None for a sound one."""
    return next(_faults(kind, value, field), None)


def _faults(kind: Any, value: Any, field: str) -> Iterator[Fault]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return
    if origin is Annotated:
        inner, limits = arguments[0], arguments[1]
        found = list(_faults(inner, value, field))
        size = len(value) if not found and isinstance(value, str | list | dict) else value
        if not found and size is not None and not limits.least <= size <= limits.most:
            what = describe(inner) + (" of length" if size is not value else "")
            found = [Fault(field, f"{what} {limits.least:g} to {limits.most:g}", shown(value))]
        yield from found
    elif origin in (Union, types.UnionType):
        tries = [list(_faults(argument, value, field)) for argument in arguments]
        if all(tries):
            # the fault that lies deepest is the one that the author of the file wants to know
            deepest = max((found[0] for found in tries), key=lambda fault: len(fault.field))
            yield deepest if deepest.field != field else Fault(field, describe(kind), shown(value))
    elif typing.is_typeddict(kind):
        yield from _of_group(kind, value, field)
    elif origin is dict:
        if not isinstance(value, dict):
            yield Fault(field, describe(kind), shown(value))
            return
        for name, entry in value.items():
            yield from _faults(arguments[1], entry, f"{field}.{name}" if field else name)
    elif origin is list:
        if not isinstance(value, list):
            yield Fault(field, describe(kind), shown(value))
            return
        for place, entry in enumerate(value):
            yield from _faults(arguments[0], entry, f"{field}[{place}]")
    elif not _is(kind, value):
        yield Fault(field, describe(kind), shown(value))


def _of_group(kind: Any, value: Any, field: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(field, "an object of named values", shown(value))
        return
    prefix = f"{field}." if field else ""
    for name in _required(kind):
        if name not in value:
            yield Fault(f"{prefix}{name}", "a value", "nothing")
    for name, entry_kind in _hints(kind).items():
        if name in value:
            yield from _faults(entry_kind, value[name], f"{prefix}{name}")


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return {name: _bare(hint) for name, hint in typing.get_type_hints(kind, include_extras=True).items()}


@functools.cache
def _required(kind: Any) -> tuple[str, ...]:
    """Return the fields that must be there; `__required_keys__` does not see them where annotations are texts."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(name for name, hint in hints.items() if typing.get_origin(hint) is typing.Required)


def _bare(hint: Any) -> Any:
    """Return a type without `Required` around it."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) in (typing.Required, typing.NotRequired) else hint


def _is(kind: Any, value: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in typing.get_args(kind))
    if kind is float:
        return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) <= LARGEST_INT)
    if kind is int:
        return type(value) is int and abs(value) <= LARGEST_INT
    if kind in (None, type(None)):
        return value is None
    return type(value) is kind


def describe(kind: Any) -> str:
    """Return a kind in a user's words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(argument) for argument in arguments))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is list:
        return f"a list, each entry {describe(arguments[0])}"
    if origin is dict or typing.is_typeddict(kind):
        return "an object of named values"
    return _WORDS.get(kind, str(kind))


_WORDS = {
    int: "a whole number",
    float: "a finite number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    list: "a list",
    dict: "an object of named values",
}


def shown(value: Any) -> str:
    """Return a value as an error shows it: short, however large or deep it is."""
    if isinstance(value, dict):
        return f"an object with {len(value)} names"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
