"""What the dimensions of a state or an action are called, in every form that info.json holds.

LeRobot's recorders write a list, {group: list}, or {name: index}; openpi's converters a list in a list. Names decide
which dimensions stay absolute with relative actions, so none may be lost in silence. Leaves out what they are used for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Dimensions:
    """One name per dimension of a column."""

    names: list[str]
    known: bool
    """Whether the data set names them itself; else they are numbered."""
    note: str | None = None
    """What is wrong with the names that it gives; None where nothing is, or where it gives none."""


def name_dimensions(key: str, given: Any, size: int) -> Dimensions:
    """Return the names of a column's `size` dimensions from its entry `names` in info.json."""
    numbered = [f"{key}_{number}" for number in range(size)]
    if not given:
        return Dimensions(numbered, known=False)
    found = list(_flatten(given))
    if isinstance(given, dict) and len(found) != size:  # names beside something else, such as units
        groups = [group for group in (list(_flatten(inner)) for inner in given.values()) if len(group) == size]
        found = groups[0] if groups else found
    names = [name for _, name in found]
    if len(names) != size:
        told = f"{key} has {size} dimensions and {len(names)} names ({', '.join(map(repr, names[:8]))})"
        return Dimensions(numbered, known=False, note=f"{told}: its dimensions are numbered, {numbered[0]} and so on")
    if len(set(names)) < size:
        names = tell_apart(found)
        repeated = [name for name, count in Counter(name for _, name in found).items() if count > 1]
        if any(not group for group, name in found if name in repeated):
            note = (
                f"{key} has several dimensions called {', '.join(map(repr, repeated))}: they are told apart by number"
            )
            return Dimensions(names, known=True, note=note)
    return Dimensions(names, known=True)


def _flatten(given: Any, group: str = "") -> Iterator[tuple[str, str]]:
    """Yield (group, name) in the order of the dimensions; anything that is no name is left out."""
    if isinstance(given, dict) and given and all(type(index) is int for index in given.values()):
        yield from ((group, str(name)) for name, _ in sorted(given.items(), key=lambda item: item[1]))
    elif isinstance(given, dict):
        for name, inner in given.items():
            yield from _flatten(inner, f"{group}_{name}" if group else str(name))
    elif isinstance(given, list):
        for inner in given:
            yield from _flatten(inner, group)
    elif isinstance(given, str) or type(given) is int:
        yield group, str(given)


def tell_apart(found: list[tuple[str, str]]) -> list[str]:
    """Put the group before names that come twice, then the number of the dimension after those that still do."""
    counts = Counter(name for _, name in found)
    names = [f"{group}_{name}" if counts[name] > 1 and group else name for group, name in found]
    counts = Counter(names)
    return [f"{name}_{i}" if counts[name] > 1 else name for i, name in enumerate(names)]
