from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi05.errors import Refused
from pi05.serve.arrays import MSGPACK_NUMPY, OPENPI, VLA_EVAL, ArrayDialect, pack, unpack
from pi05.serve.dialects import (
    Address,
    Family,
    Reply,
    address_of,
    interpret,
    pack_done,
    pack_error,
    pack_reply,
)

REFUSED = Refused("it is wrong", code="observation", wanted="right", found="wrong", remedy="mend it")
CHUNK = np.arange(6, dtype=np.float32).reshape(3, 2)


def family(message: dict[str, Any]) -> Family:
    return address_of(message, None, Address()).family


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ({"observation/image": 1, "prompt": "x"}, "openpi"),
        ({"observation.state": 1, "request_id": 3}, "pi05"),
        ({"endpoint": "infer", "state": 1}, "vllm-omni"),
        ({"session_id": "a", "state": 1}, "vllm-omni"),
        ({"examples": []}, "starvla"),
        ({"type": "ping", "request_id": "a"}, "starvla"),
        ({"type": "observation", "payload": {}, "seq": 1, "timestamp": 0.0}, "vla-eval"),
        ({}, "openpi"),
        ({"type": 7}, "openpi"),
    ],
)
def test_a_message_tells_who_sent_it(message: dict[str, Any], wanted: str) -> None:
    assert family(message) == wanted


WHOLE = st.integers(-(2**63), 2**64 - 1)
"""All that msgpack can carry."""
ANYTHING = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats() | st.text(max_size=9) | st.just(np.zeros((2, 3), np.uint8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
WORDS = ("type", "payload", "seq", "timestamp", "examples", "endpoint", "session_id", "request_id", "seed", "step")
MORE = ("deadline_ms", "control_rate_hz", "sampling_params", "num_inference_steps", "prompt", "images", "image")
CHUNKING = ("delay", "continues")


@given(message=st.dictionaries(st.sampled_from((*WORDS, *MORE, *CHUNKING)), ANYTHING, max_size=8))
def test_no_message_is_a_fault_of_the_program(message: dict[str, Any]) -> None:
    """It is understood, or refused; and the refusal can be sent to whoever it is."""
    address = address_of(message, None, Address())
    with suppress(Refused):
        interpret(message, address)
    assert pack_error(address, REFUSED)
    assert pack_done(address, "reset")


ARRAYS = (np.zeros((2, 3), np.uint8), np.zeros(0), np.ones(1), np.array(2), np.int64(1), np.float32("nan"))


@pytest.mark.parametrize("value", [*ARRAYS, [], {}, "", b"", 0, False, None], ids=repr)
@pytest.mark.parametrize("word", [*WORDS, *MORE, *CHUNKING])
def test_no_word_takes_a_value_for_what_it_is_not(word: str, value: Any) -> None:
    """An array, above all, has no truth value; alone, beside what the dialects need, and one level down."""
    vla_eval = {"type": "observation", "payload": {word: value}, "seq": 1, "timestamp": 0.0}
    starvla = {"examples": [{}], word: value}
    for message in ({word: value}, vla_eval, vla_eval | {word: value}, starvla, {"sampling_params": {word: value}}):
        address = address_of(message, None, Address())
        with suppress(Refused):
            interpret(message, address)
        assert pack_error(address, REFUSED)


@pytest.mark.parametrize("steps", [4, np.int64(4), np.uint8(4)])
def test_a_number_of_steps_may_be_numpys(steps: Any) -> None:
    for message in ({"num_inference_steps": steps}, {"sampling_params": {"num_inference_steps": steps}}):
        assert interpret(message, address_of(message, None, Address())).num_steps == 4


def test_what_is_asked_besides() -> None:
    message = {
        "endpoint": "infer",
        "session_id": "s",
        "seed": 3,
        "step": np.int64(4),
        "deadline_ms": 50,
        "delay": np.int32(2),
        "continues": 1,
        "state": [1.0],
    }
    ask = interpret(message, address_of(message, None, Address()))
    assert (ask.session_id, ask.seed, ask.step, ask.deadline_ms) == ("s", 3, 4, 50)
    assert (ask.delay, ask.continues) == (2, 1)
    assert ask.observations == ({"state": [1.0]},)
    assert interpret({"sampling_params": {"num_inference_steps": 4}}, Address()).num_steps == 4
    assert interpret({"endpoint": "reset"}, Address()).what == "reset"


@pytest.mark.parametrize(
    "message",
    [
        {"seed": -1},
        {"seed": 1.5},
        {"seed": True},
        {"seed": 1 << 63},
        {"deadline_ms": float("nan")},
        {"deadline_ms": float("inf")},
        {"deadline_ms": -1},
        {"step": "3"},
        {"delay": 2},
        {"delay": -1, "step": 3},
        {"delay": 1.5, "step": 3},
        {"continues": 1, "step": 3},
        {"session_id": 3},
        {"session_id": "x" * 201},
        {"endpoint": "kill"},
        {"sampling_params": {"temperature": 1}},
        {"sampling_params": [1]},
        {"num_inference_steps": "ten"},
    ],
)
def test_wishes_that_cannot_be_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        interpret(message, Address())


def reply(address: Address, **changes: Any) -> Any:
    timing = {"infer_ms": 4.0}
    return unpack(pack_reply(address, Reply(chunks=[CHUNK], infer_ms=3.0, server_timing=timing, **changes)))[0]


@pytest.mark.parametrize("arrays", [OPENPI, VLA_EVAL, MSGPACK_NUMPY])
def test_the_answer_is_in_the_askers_arrays(arrays: ArrayDialect) -> None:
    frame = pack_reply(Address(arrays=arrays), Reply(chunks=[CHUNK], infer_ms=1.0, server_timing={}))
    message, found = unpack(frame)
    assert found == arrays
    np.testing.assert_array_equal(message["actions"], CHUNK)


def test_answers_have_the_shape_of_their_dialect() -> None:
    assert reply(Address(), delay=2)["delay"] == 2
    openpi = reply(Address(), warnings=("hot",))
    assert list(openpi) == ["actions", "policy_timing", "warnings", "server_timing"]
    assert openpi["policy_timing"] == {"infer_ms": 3.0}
    arrays = [value for value in openpi.values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 1  # openpi's broker steps through every array of the answer

    own = reply(Address(family="pi05", label=9), step=4, batch=2)
    assert (own["request_id"], own["step"], own["batch_size"]) == (9, 4, 2)

    starvla = reply(Address(family="starvla", label="r1"))
    assert list(starvla) == ["status", "ok", "type", "request_id", "data"]
    assert starvla["data"]["actions"].shape == (1, 3, 2)

    vla_eval = reply(Address(family="vla-eval", arrays=VLA_EVAL, label=5), one_action=CHUNK[0])
    assert (vla_eval["type"], vla_eval["seq"]) == ("action", 5)
    np.testing.assert_array_equal(vla_eval["payload"]["actions"], CHUNK[0])
    assert set(vla_eval) == {"type", "payload", "seq", "timestamp"}


@pytest.mark.parametrize("sender", get_args(Family))
def test_what_is_odd_is_told_to_everybody(sender: Family) -> None:
    """Beside the actions: what a client takes them out of stays as it was."""
    address, one = Address(family=sender, label=1), {"one_action": CHUNK[0]}
    plain, odd = reply(address, **one), reply(address, warnings=("joint 2 is outside",), **one)
    assert odd["warnings"] == ["joint 2 is outside"]
    assert set(odd) - set(plain) == {"warnings"}
    for inside in ("data", "payload"):
        assert set(odd.get(inside, {})) == set(plain.get(inside, {}))


def test_errors_have_the_shape_of_their_dialect() -> None:
    text = pack_error(Address(), REFUSED)
    assert isinstance(text, str)  # which openpi's client raises as an exception
    assert all(part in text for part in ("it is wrong", "right", "mend it", "observation"))

    def map_of(address: Address) -> dict[str, Any]:
        frame = pack_error(address, REFUSED)
        assert isinstance(frame, bytes)
        return unpack(frame)[0]

    own = map_of(Address(family="pi05", label=9))
    assert (own["type"], own["request_id"], own["code"], own["wanted"]) == ("error", 9, "observation", "right")
    vllm = map_of(Address(family="vllm-omni"))
    assert vllm["type"] == "error"
    assert "it is wrong" in vllm["message"]
    starvla = map_of(Address(family="starvla", label="r1"))
    assert (starvla["status"], starvla["ok"], starvla["request_id"]) == ("error", False, "r1")
    assert "it is wrong" in starvla["error"]["message"]
    vla_eval = map_of(Address(family="vla-eval", label=5, arrays=VLA_EVAL))
    assert (vla_eval["type"], vla_eval["seq"]) == ("error", 5)
    assert "it is wrong" in vla_eval["payload"]["error"]


def test_the_recorded_reply_of_openpis_server_is_made_to_the_byte() -> None:
    """The same keys in the same order, packed the same way."""
    from serving import PROTOCOL

    line = next(x for x in (PROTOCOL / "wire.jsonl").read_text().splitlines() if "827e00d084a7616374696f6e73" in x)
    recorded = bytes.fromhex(line.split('"hex": "')[1].split('"')[0])[4:]
    message, arrays = unpack(recorded)
    assert arrays is not None
    assert pack(message, arrays) == recorded
    own = {name: value for name, value in message.items() if name != "state"}
    timing = message["server_timing"]
    made = pack_reply(Address(), Reply(chunks=[message["actions"]], infer_ms=12.5, server_timing=timing))
    assert made == pack(own)


def test_nothing_large_is_repeated_to_the_sender() -> None:
    assert address_of({"request_id": "x" * 10_000}, None, Address()).label == "x" * 200
    assert address_of({"request_id": [1] * 1000}, None, Address()).label is None
