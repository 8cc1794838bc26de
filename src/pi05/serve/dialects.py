"""One socket for five kinds of clients: what a message asks for, and the answer in the shape that its sender reads.

openpi's flat maps; the same with a `request_id` (`pi05.serve.client`), which makes errors maps with a code;
vLLM-Omni's `endpoint` and `session_id`; StarVLA's envelope; vla-eval's typed messages. How arrays are packed is
`arrays.py`'s business, what the keys of an observation mean `observations.py`'s. Facts: shared/spec/servers.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from pi05.errors import Refused
from pi05.serve.arrays import OPENPI, VLA_EVAL, ArrayDialect, pack
from pi05.serve.bounds import malformed

Family = Literal["openpi", "pi05", "vllm-omni", "starvla", "vla-eval"]
LONGEST_NAME = 200
"""Characters of a text that is kept for a client, or repeated to it."""
REQUEST_KEYS = (
    *("endpoint", "session_id", "request_id", "seed", "deadline_ms", "step", "control_rate_hz"),
    *("delay", "continues"),
)
"""Keys beside an observation that say how it is to be answered."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Who asks, and what the answer must repeat for him to recognise it."""

    family: Family = "openpi"
    arrays: ArrayDialect = OPENPI
    label: Any = None
    """The request's id, or its sequence number."""
    kind: str = "inference_result"
    """StarVLA's type of the answer."""
    answered: bool = True
    """False for vla-eval's announcements: an answer to one would be taken for that to the next observation."""

    def of_unread(self) -> Address:
        """Return whom to tell of the next message where it is not read: its id is unknown, and this one is not its."""
        labels = {"pi05": None, "starvla": "default"}
        return replace(self, label=labels.get(self.family, self.label))


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What one message wants."""

    what: Literal["infer", "reset", "ping", "nothing"]
    observations: tuple[Mapping[str, Any], ...] = ()
    """As they were sent, the request's own keys left out."""
    session_id: str | None = None
    starts_episode: bool = False
    """Whether what is kept of the client is forgotten first."""
    seed: int | None = None
    deadline_ms: float | None = None
    """Milliseconds after which the answer is of no use, from the arrival of the question."""
    step: int | None = None
    """The client's control step at which the observation was made; the answer repeats it."""
    delay: int | None = None
    """Control steps from the observation to the answer, for which the client goes on with the chunk that it has; None:
    it stands still, or does not tell."""
    continues: int | None = None
    """The control step of the observation that the chunk in execution was given for; None: the last chunk."""
    control_rate_hz: float | None = None
    num_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the policy said, before it takes the shape of a dialect."""

    chunks: Sequence[np.ndarray]
    """float32[A, n] for each observation, in robot units."""
    infer_ms: float
    server_timing: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    step: int | None = None
    delay: int | None = None
    """Actions of the chunk before it that the first chunk continues; None: it continues none."""
    batch: int = 1
    one_action: np.ndarray | None = field(default=None)
    """For vla-eval, which takes one action at a time."""


STARVLA_TYPES = {"infer": "inference_result", "ping": "ping", "reset": "reset", "init": "unknown"}
"""StarVLA's types of messages → those of their answers."""


def address_of(message: Mapping[str, Any], arrays: ArrayDialect | None, before: Address) -> Address:
    """Return who sent a message; what it does not tell is as in the message before. Never fails."""
    told, kind = arrays or before.arrays, _word(message.get("type"))
    if {"payload", "seq", "timestamp"} <= set(message):
        answered = kind not in ("hello", "episode_start", "episode_end")
        return Address(family="vla-eval", arrays=arrays or VLA_EVAL, label=_label(message["seq"]), answered=answered)
    if "examples" in message or kind in STARVLA_TYPES or (kind and "payload" in message):
        label = _label(message.get("request_id", "default"))
        return Address(family="starvla", arrays=told, label=label, kind=STARVLA_TYPES.get(kind or "infer", "unknown"))
    if "request_id" in message:
        return Address(family="pi05", arrays=told, label=_label(message["request_id"]))
    if "endpoint" in message or "session_id" in message:
        return Address(family="vllm-omni", arrays=told)
    return Address(arrays=told)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _label(value: Any) -> Any:
    """Return what is repeated to the sender: a number or a short text, nothing that could be large."""
    if isinstance(value, str):
        return value[:LONGEST_NAME]
    return value if isinstance(value, int | float) else None


def interpret(message: Mapping[str, Any], address: Address) -> Ask:
    """Return what a message asks for. Raises Refused for what is not offered, or makes no sense."""
    if address.family == "vla-eval":
        return _vla_eval(message)
    if address.family == "starvla":
        return _starvla(message)
    rest = {key: value for key, value in message.items() if key not in REQUEST_KEYS}
    options = _options(message)
    endpoint = _word(message.get("endpoint", "infer"))
    if endpoint == "reset":
        return Ask(what="reset", **options)
    if endpoint == "ping":
        return Ask(what="ping", **options)
    if endpoint != "infer":
        raise _unsupported(f"the endpoint {endpoint[:40]!r}", "infer, reset or ping")
    return Ask(what="infer", observations=(rest,), num_steps=_num_steps(rest), **options)


def _options(message: Mapping[str, Any]) -> dict[str, Any]:
    numbers, whole = (int, float), (int,)
    kinds: dict[str, tuple[type, ...]] = {"session_id": (str,), "deadline_ms": numbers, "control_rate_hz": numbers}
    kinds |= dict.fromkeys(("seed", "step", "delay", "continues"), whole)
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        value = message.get(name)
        value = value.item() if isinstance(value, np.generic) else value
        if value is None:
            continue
        right = isinstance(value, kind) and not isinstance(value, bool)
        if right and isinstance(value, str) and len(value) > LONGEST_NAME:
            raise malformed(f"a {name} of {len(value):,} characters")
        if not right or (str not in kind and not (np.isfinite(value) and 0 <= value < 2**63)):
            raise malformed(f"{name} is {str(value)[:40]!r}")
        found[name] = value
    if "delay" in found and "step" not in found:
        raise malformed("a delay without the step of the observation, from which it is counted")
    if "continues" in found and "delay" not in found:
        raise malformed("a chunk to continue without the delay")
    return found


def _num_steps(rest: dict[str, Any]) -> int | None:
    """Take out what SGLang and vLLM-Omni say about sampling, and return the number of steps."""
    sampling, asked = rest.pop("sampling_params", None), rest.pop("num_inference_steps", None)
    sampling = {} if sampling is None else sampling  # no `or`: an array has no truth value
    if not isinstance(sampling, Mapping) or set(sampling) - {"num_inference_steps"}:
        raise _unsupported("sampling_params", "nothing but num_inference_steps in it")
    steps = sampling.get("num_inference_steps", asked)
    steps = steps.item() if isinstance(steps, np.integer) else steps
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool)):
        raise malformed(f"num_inference_steps is {str(steps)[:40]!r}")
    return steps


def _starvla(message: Mapping[str, Any]) -> Ask:
    kind = _word(message.get("type", "infer"))
    if kind == "ping" or kind == "reset":
        return Ask(what="ping" if kind == "ping" else "reset")
    if kind != "infer":
        raise _unsupported(f"the message type {kind[:40]!r}", "infer, ping or reset")
    payload = message.get("payload", message)
    examples = payload.get("examples") if isinstance(payload, Mapping) else None
    if not isinstance(examples, list) or not examples or not all(isinstance(one, Mapping) for one in examples):
        raise malformed("no list of examples")
    if payload.get("unnorm_key") is not None and _word(payload["unnorm_key"]) != "pi05":
        raise _unsupported(f"the unnorm_key {str(payload['unnorm_key'])[:40]!r}", "pi05, or none")
    return Ask(what="infer", observations=tuple(examples))


def _vla_eval(message: Mapping[str, Any]) -> Ask:
    kind, payload = _word(message.get("type")), message.get("payload")
    if not isinstance(payload, Mapping):
        raise malformed("the payload is no map")
    if kind == "observation":
        restart = payload.get("episode_restart") is True
        rest = {key: value for key, value in payload.items() if key != "episode_restart"}
        return Ask(what="infer", observations=(rest,), starts_episode=restart)
    if kind in ("hello", "episode_end"):
        return Ask(what="nothing")
    if kind == "episode_start":
        return Ask(what="nothing", starts_episode=True)
    raise _unsupported(f"the message type {kind[:40]!r}", "hello, observation, episode_start or episode_end")


def _unsupported(found: str, wanted: str) -> Refused:
    return Refused(
        "the message asks for something that this server does not do",
        code="unsupported",
        wanted=wanted,
        found=found,
        remedy="leave it out",
    )


def pack_reply(address: Address, reply: Reply) -> bytes:
    """Return the answer to an inference."""
    told = {"warnings": list(reply.warnings)} if reply.warnings else {}  # beside the actions, where nobody minds it
    if address.family == "vla-eval":
        return _typed(address, "action", {"actions": reply.one_action}, told)
    if address.family == "starvla":
        length = min(map(len, reply.chunks))
        data = {"actions": np.stack([chunk[:length] for chunk in reply.chunks])}
        return pack(_envelope(address, True) | {"data": data} | told, address.arrays)
    message: dict[str, Any] = {"actions": reply.chunks[0], "policy_timing": {"infer_ms": reply.infer_ms}} | told
    if reply.delay is not None:
        message["delay"] = reply.delay
    if address.family == "pi05":
        message |= {"request_id": address.label, "step": reply.step, "batch_size": reply.batch}
    return pack(message | {"server_timing": dict(reply.server_timing)}, address.arrays)


def pack_done(address: Address, what: str) -> bytes:
    """Return the answer to a reset or a ping."""
    if address.family == "starvla":
        return pack(_envelope(address, True), address.arrays)
    if address.family == "vla-eval":
        return _typed(address, what, {})
    message = {"status": f"{what} successful"}
    return pack(message | ({"request_id": address.label} if address.family == "pi05" else {}), address.arrays)


def pack_error(address: Address, error: Refused) -> bytes | str:
    """Return a refusal as the asker's dialect has it: openpi's clients raise an exception for a text frame."""
    text = error.render()
    if address.family == "openpi":
        return f"{text}\n  code:   {error.code}"
    if address.family == "vla-eval":
        return _typed(address, "error", {"error": text})
    if address.family == "starvla":
        return pack(_envelope(address, False) | {"error": {"message": text, "code": error.code}}, address.arrays)
    message: dict[str, Any] = {"type": "error", "message": text, "code": error.code}
    if address.family == "pi05":
        parts = {"problem": error.problem, "wanted": error.wanted, "found": error.found, "remedy": error.remedy}
        message |= {"request_id": address.label, **parts}
    return pack(message, address.arrays)


def _envelope(address: Address, ok: bool) -> dict[str, Any]:
    status = "ok" if ok else "error"
    return {"status": status, "ok": ok, "type": address.kind, "request_id": address.label}


def _typed(address: Address, kind: str, payload: Mapping[str, Any], told: Mapping[str, Any] | None = None) -> bytes:
    message = {"type": kind, "payload": dict(payload), "seq": address.label, "timestamp": time.time()}
    return pack(message | dict(told or {}), address.arrays)
