"""Is `config.json` the one that training wrote? A hash of every field of it that changes the actions.

A checkpoint whose resize, slots, rate or statistics were edited by hand loads without a fault and moves the robot
otherwise. So each such field is hashed when the file is written, and compared when it is read: what was changed is told
by name, and is accepted by name. Checkpoints of pi05 0.1 up to November 2026 have no fingerprint. It tells edits, not
forgery: whoever wants to deceive can write a new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pi05.errors import CheckpointError

FINGERPRINT = "fingerprint"
EDITED = "edited"
"""Fields of a config that differed from its fingerprint when it was exported, which renews it."""
_COUNTED = ("model", "processor", "n_action_steps", "fps")
_DIGITS = 16


def with_fingerprint(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a `config.json` with the fingerprint of what they hold now; weights alone get none."""
    bare = {name: value for name, value in config.items() if name != FINGERPRINT}
    return {**bare, FINGERPRINT: fingerprint_of(bare)} if isinstance(bare.get("processor"), Mapping) else bare


def fingerprint_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return field → hash of its value, of the fields that change the actions."""
    plain = json.loads(json.dumps({name: config[name] for name in _COUNTED if name in config}))
    return {name: hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] for name, text in _fields(plain, "")}


def edited_fields(config: Mapping[str, Any]) -> list[str] | None:
    """Return the fields that are not as their fingerprint says; None where there is no fingerprint."""
    stored = config.get(FINGERPRINT)
    if not isinstance(stored, Mapping):
        return None
    now = fingerprint_of(config)
    return sorted(name for name in {*stored, *now} if stored.get(name) != now.get(name))


def require_unedited(
    config: Mapping[str, Any], path: Path, accepted: Collection[str] = (), *, flag: str | None = None
) -> list[str]:
    """Return notes on accepted edits. Raises CheckpointError for fields that were edited and are not accepted.

    `flag` is what goes on all the same, where it is not --accept_edited.
    """
    edited = edited_fields(config) or []
    strange = [name for name in edited if name not in accepted]
    if strange:
        raise CheckpointError(
            f"{path} was edited after training: the policy would act in another way than it was trained for",
            wanted="the file that training wrote, as its fingerprint tells",
            found=f"another value of {', '.join(strange)}",
            remedy="restore the file, or take another checkpoint of the run; to use it as it is, name what was edited: "
            + (flag or f"--accept_edited='[{', '.join(edited)}]', in Python accept_edited={edited}"),
        )
    earlier = config.get(EDITED)
    notes = [f"accepted although edited after training: {', '.join(edited)}"] if edited else []
    if isinstance(earlier, list) and earlier:
        notes.append(f"edited after training and before it was exported: {', '.join(map(str, earlier))}")
    return notes


def _fields(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield dotted name and text of every value; a list is one value. 10 and 10.0 are the same."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _fields(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(_number(value), sort_keys=True)


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
