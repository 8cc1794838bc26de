"""Damage to small files: one thing changed at a time, seeded; and what a program that reads them must make of it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pi05.errors import UserError

MUTATIONS = 200
OTHER: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**40, 0.5, -1.5, 1e308, "", "x", "../../x", "\u202e", "é" * 300),
    *([], [1], ["x"], [None], [[1]], {}, {"x": 1}, {"": None}),
)
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000, '"\\ud800"')
MARK = "\u0001the value\u0001"


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value inside."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in entries:
        yield (*way, name)
        yield from places(entry, (*way, name))


def put(value: Any, way: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """Return a copy in which the container at the end of `way` was changed."""
    whole = copy.deepcopy(value)
    holder = whole
    for name in way[:-1]:
        holder = holder[name]
    change(holder, way[-1])
    return whole


def mutate(text: str, rng: random.Random) -> bytes:
    """Return the file with one thing changed."""
    kind = rng.choice(("value", "value", "value", "raw", "raw", "gone", "new", "twice", "byte", "cut", "type"))
    if kind == "byte":
        content = bytearray(text.encode())
        content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content)
    if kind == "cut":
        return text.encode()[: rng.randrange(len(text.encode()))]
    values = json.loads(text)
    way = rng.choice(list(places(values)))
    if kind == "gone":
        changed = put(values, way, lambda holder, name: holder.pop(name))
    elif kind == "new":
        more = {rng.choice(("", "x", "model", "steps")): rng.choice(OTHER)}
        changed = {**values, **more} if isinstance(values, dict) else [*values, more]
    elif kind == "twice" and isinstance(way[-1], str):
        name = json.dumps(way[-1])
        return text.replace(f"{name}:", f"{name}: 1, {name}:", 1).encode()
    elif kind == "type":
        changed = put(values, way, lambda holder, name: holder.__setitem__(name, str(holder[name])))
    elif kind == "raw":
        changed = put(values, way, lambda holder, name: holder.__setitem__(name, MARK))
        return json.dumps(changed).replace(json.dumps(MARK), rng.choice(RAW)).encode()
    else:
        other = rng.choice(OTHER)
        changed = put(values, way, lambda holder, name: holder.__setitem__(name, other))
    return json.dumps(changed).encode()


def survive(file: Path, use: Callable[[Path], object], seed: str, count: int = MUTATIONS) -> tuple[int, int]:
    """Damage `file` in many ways, one after another, and use its folder; return how many worked and how many not."""
    text, rng = file.read_text(encoding="utf-8"), random.Random(f"{seed} {file.name}")
    worked = refused = 0
    for number in range(count):
        content = mutate(text, rng)
        file.write_bytes(content)
        try:
            use(file.parent)
            worked += 1
        except UserError as error:
            told = error.render()
            assert file.name in told or str(file.parent) in told, f"{number}: {content[:300]!r}\n{told}"
            refused += 1
        except Exception as error:
            raise AssertionError(f"mutation {number} of {file.name}: {error!r}\n{content[:2000]!r}") from error
    file.write_text(text, encoding="utf-8")
    use(file.parent)
    return worked, refused
